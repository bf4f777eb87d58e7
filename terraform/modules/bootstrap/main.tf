# Salt on every host, and on the master what it serves. No host knows another one yet: that is the module join.
locals {
  over = abspath("${path.module}/files/over.sh")
  # The tree without what Python leaves in it.
  tree = {
    for folder, pattern in { "${var.project}" = "{salt,plugin}/**", "${var.pillar}" = "**" } :
    folder => [for file in fileset(folder, pattern) : file if !strcontains(file, "__pycache__")]
  }
  tree_hash = sha256(jsonencode({
    for folder, files in local.tree : folder == var.pillar ? "pillar" : "project" => { for file in files : file => filesha256("${folder}/${file}") }
  }))
  lock = "${var.project}/requirements.lock"
  # What tells a host from another one: the cloud's name for it, or where it is and its key.
  identity = {
    for name, way in var.ways : name => {
      for key in(lookup(way, "SSH_IDENTITY", "") != "" ? ["SSH_IDENTITY"] : ["SSH_ADDRESS", "SSH_PORT", "SSH_HOST_KEY"]) : key => way[key]
    }
  }
  # How the master's salt-ssh would reach the nodes.
  roster = {
    for name, way in var.ways : name => merge(
      { host = var.inventory.nodes[name].private_address, port = tonumber(way.SSH_PORT), user = way.SSH_USER },
      way.SSH_USER == "root" ? {} : { sudo = true }
    )
  }
  install = abspath("${path.module}/files/install.sh")
  serve   = abspath("${path.module}/files/serve.sh")
}

# Salt, of the version that the project pins, with its services. A host that is another one, or another version,
# is installed anew; a host that failed stays tainted, and the next apply takes it up again.
resource "terraform_data" "host" {
  for_each = var.inventory.nodes

  input = merge(var.ways[each.key], { OVER = local.over, STOP = abspath("${path.module}/files/stop.sh") })
  triggers_replace = {
    place    = local.identity[each.key]
    versions = filesha256(local.lock)
    install  = filesha256(local.install)
    master   = each.key == var.inventory.master
  }

  provisioner "local-exec" {
    command     = "\"$OVER\" \"$INSTALL\" \"$KIND\" <\"$LOCK\""
    interpreter = ["/bin/bash", "-c"]
    quiet       = true
    environment = merge(var.ways[each.key], {
      OVER    = local.over
      INSTALL = local.install
      LOCK    = local.lock
      KIND    = each.key == var.inventory.master ? "master" : "minion"
      # a host that was made just now is still on its way
      SSH_WAIT = lookup(var.ways[each.key], "SSH_BOOT", "0")
    })
  }

  # A host that is gone already must hold up nobody.
  provisioner "local-exec" {
    when        = destroy
    on_failure  = continue
    command     = "\"$OVER\" \"$STOP\""
    interpreter = ["/bin/bash", "-c"]
    quiet       = true
    environment = merge(self.input, { SSH_CONNECT = "5", SSH_LIMIT = "60" })
  }
}

# The trees and the inventory on the master. Plan and state have their hash alone.
resource "terraform_data" "served" {
  triggers_replace = {
    host      = terraform_data.host[var.inventory.master].id
    tree      = local.tree_hash
    inventory = sha256(jsonencode([var.inventory, local.roster]))
    serve     = filesha256(local.serve)
  }

  provisioner "local-exec" {
    command     = "\"$PACK\" \"$PROJECT\" \"$PILLAR\" | \"$OVER\" \"$SERVE\" \"$LISTEN\" \"$INVENTORY\" \"$ROSTER\""
    interpreter = ["/bin/bash", "-o", "pipefail", "-c"]
    quiet       = true
    environment = merge(var.ways[var.inventory.master], {
      OVER      = local.over
      PACK      = abspath("${path.module}/files/pack.sh")
      SERVE     = local.serve
      PROJECT   = var.project
      PILLAR    = var.pillar
      LISTEN    = var.inventory.nodes[var.inventory.master].private_address
      INVENTORY = jsonencode(var.inventory)
      ROSTER    = jsonencode(local.roster)
    })
  }
}
