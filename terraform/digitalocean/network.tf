# One private network, and a firewall for each role. They go by tags, which a droplet has before it first boots.
resource "digitalocean_vpc" "this" {
  name     = var.cluster
  region   = var.region
  ip_range = module.access.network
}

resource "digitalocean_tag" "role" {
  for_each = toset(["node", "master", "etcd", "ceph", "docker"])

  name = "${var.cluster}-${each.key}"
}

resource "digitalocean_firewall" "node" {
  name = "${var.cluster}-node"
  tags = [digitalocean_tag.role["node"].name]

  inbound_rule {
    protocol         = "tcp"
    port_range       = "22"
    source_addresses = module.access.allowed
  }

  inbound_rule {
    protocol    = "icmp"
    source_tags = [digitalocean_tag.role["node"].name]
  }

  dynamic "outbound_rule" {
    for_each = ["tcp", "udp", "icmp"]
    content {
      protocol              = outbound_rule.value
      port_range            = outbound_rule.value == "icmp" ? null : "all"
      destination_addresses = ["0.0.0.0/0", "::/0"]
    }
  }
}

resource "digitalocean_firewall" "role" {
  for_each = toset([for rule in module.access.rules : rule.to])

  name = "${var.cluster}-${each.key}"
  tags = [digitalocean_tag.role[each.key].name]

  dynamic "inbound_rule" {
    for_each = { for name, rule in module.access.rules : name => rule if rule.to == each.key }
    content {
      protocol    = "tcp"
      port_range  = inbound_rule.value.first == inbound_rule.value.last ? tostring(inbound_rule.value.first) : "${inbound_rule.value.first}-${inbound_rule.value.last}"
      source_tags = [for role in inbound_rule.value.from : digitalocean_tag.role[role].name]
    }
  }
}
