output "user_data" {
  description = "The configuration that cloud-init takes."
  value       = local.user_data
}
