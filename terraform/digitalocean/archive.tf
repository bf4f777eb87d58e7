# The archive's bucket, and a key that may read and write in it and nothing else. Spaces gives a key's secret once, to
# who makes it: it is in the state, which is to be kept like a key, and from there goes to the master over SSH.
resource "digitalocean_spaces_bucket" "archive" {
  count = var.archive == null ? 0 : 1

  name   = var.archive.bucket
  region = coalesce(var.archive.region, var.region)
  acl    = "private"

  lifecycle {
    prevent_destroy = true
  }
}

resource "digitalocean_spaces_key" "archive" {
  count = var.archive == null ? 0 : 1

  name = "${var.cluster}-archive"

  grant {
    bucket     = digitalocean_spaces_bucket.archive[0].name
    permission = "readwrite"
  }
}

resource "terraform_data" "archive" {
  count = var.archive == null ? 0 : 1

  triggers_replace = {
    master = module.bootstrap.hosts[module.inventory.inventory.master]
    key    = digitalocean_spaces_key.archive[0].access_key
    bucket = digitalocean_spaces_bucket.archive[0].name
    script = filesha256("${path.module}/files/archive.sh")
  }

  provisioner "local-exec" {
    command     = "printf '%s' \"$ARCHIVE\" | env --unset=ARCHIVE \"$OVER\" \"$SCRIPT\""
    interpreter = ["/bin/bash", "-o", "pipefail", "-c"]
    quiet       = true
    environment = merge(local.ways[module.inventory.inventory.master], {
      OVER   = abspath("${path.module}/../modules/bootstrap/files/over.sh")
      SCRIPT = abspath("${path.module}/files/archive.sh")
      ARCHIVE = jsonencode({
        bucket     = digitalocean_spaces_bucket.archive[0].name
        endpoint   = "https://${digitalocean_spaces_bucket.archive[0].region}.digitaloceanspaces.com"
        region     = digitalocean_spaces_bucket.archive[0].region
        access_key = digitalocean_spaces_key.archive[0].access_key
        secret_key = digitalocean_spaces_key.archive[0].secret_key
      })
    })
  }
}
