output "allowed" {
  description = "The networks that may reach SSH."
  value       = var.allowed
}

output "network" {
  description = "The cluster's own network."
  value       = var.network
}

output "rules" {
  description = "What is open inside, over TCP: ports first to last of the hosts with role `to`, to those with a role of `from`; every host has the role node."
  value       = local.rules
}
