output "inventory" {
  description = "The cluster as Salt's roster, grains and pillar have it: name, master, nodes with addresses, roles and data disks."
  value       = module.inventory.inventory
}
