output "inventory" {
  description = "The cluster as Salt's roster, grains and pillar have it: name, master, nodes with addresses, roles and data disks."
  value       = module.inventory.inventory
}

output "archive" {
  description = "How the archive is reached, null without one. The secret key is sealed: base64 --decode and gpg --decrypt open it."
  value = var.archive == null ? null : {
    bucket            = aws_s3_bucket.archive[0].bucket
    endpoint          = "https://s3.${var.region}.amazonaws.com"
    region            = var.region
    access_key        = aws_iam_access_key.archive[0].id
    sealed_secret_key = aws_iam_access_key.archive[0].encrypted_secret
  }
}
