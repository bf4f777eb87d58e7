# Hosts, and data that outlives them.
resource "digitalocean_ssh_key" "this" {
  count = var.ssh.account_key == null ? 1 : 0

  name       = var.cluster
  public_key = local.public_key
}

resource "digitalocean_droplet" "node" {
  for_each = local.nodes

  name      = "${var.cluster}-${each.key}"
  region    = var.region
  size      = each.value.size
  image     = var.image
  vpc_uuid  = digitalocean_vpc.this.id
  user_data = module.first_boot[each.key].user_data
  ssh_keys  = [var.ssh.account_key == null ? digitalocean_ssh_key.this[0].fingerprint : var.ssh.account_key]
  tags      = [for role, tag in digitalocean_tag.role : tag.name if role == "node" || contains(each.value.roles, role)]

  resize_disk   = false # a larger size can be taken back
  droplet_agent = false
  monitoring    = false

  lifecycle {
    ignore_changes = [image, user_data, ssh_keys] # of hosts yet to come
  }

  # a host is never without its firewall
  depends_on = [digitalocean_firewall.node, digitalocean_firewall.role]
}

resource "digitalocean_volume" "data" {
  for_each = local.disks

  name        = "${var.cluster}-${each.value.node}-${each.value.disk}"
  region      = var.region # never the droplet's: a new droplet must not mean a new volume
  size        = each.value.size
  description = "Data of ${each.value.node} in the cluster ${var.cluster}"

  lifecycle {
    prevent_destroy = true
  }
}

resource "digitalocean_volume_attachment" "data" {
  for_each = { for name, disk in local.disks : name => disk if var.nodes[disk.node].instance }

  droplet_id = tonumber(digitalocean_droplet.node[each.value.node].id)
  volume_id  = digitalocean_volume.data[each.key].id
}
