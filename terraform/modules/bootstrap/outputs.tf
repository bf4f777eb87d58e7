output "hosts" {
  description = "An identity of each node's host, which changes when the host is another one."
  value       = { for name, identity in local.identity : name => sha256(jsonencode(identity)) }
  depends_on  = [terraform_data.host]
}

output "served" {
  description = "Changes when what the master serves does."
  value       = terraform_data.served.id
}
