output "inventory" {
  description = "The cluster as Salt's roster, grains and pillar have it: name, master, nodes with addresses and roles."
  value       = module.inventory.inventory
}
