# Hosts with Salt become one cluster. A minion's private key is made on its host and stays there; public keys go over
# SSH, whose host keys are known, from host to master and back. So no key is ever accepted unseen, and none is secret
# that Terraform sees.
locals {
  over   = abspath("${path.module}/../bootstrap/files/over.sh")
  files  = abspath("${path.module}/files")
  master = { for key, value in var.ways[var.inventory.master] : "MASTER_${key}" => value }
}

# Membership: it lasts as long as the host. Its end is the one that drains the node and deletes its key; a change of
# the master, of roles or of software does not end it.
resource "terraform_data" "member" {
  for_each = var.inventory.nodes

  input            = merge(var.ways[each.key], local.master, { OVER = local.over, FILES = local.files, DRAIN = var.drain ? "yes" : "no" })
  triggers_replace = var.hosts[each.key]

  provisioner "local-exec" {
    when        = destroy
    command     = "\"$FILES/leave.sh\""
    interpreter = ["/bin/bash", "-c"]
    quiet       = true
    environment = self.input
  }
}

# Minion and master know each other's keys.
resource "terraform_data" "trust" {
  for_each = var.inventory.nodes

  triggers_replace = {
    member = terraform_data.member[each.key].id
    master = var.hosts[var.inventory.master]
    reach  = var.inventory.nodes[var.inventory.master].private_address
    files  = sha256(join("", [for file in ["join.sh", "key.sh", "accept.sh", "meet.sh"] : filesha256("${path.module}/files/${file}")]))
  }

  provisioner "local-exec" {
    command     = "\"$FILES/join.sh\""
    interpreter = ["/bin/bash", "-c"]
    quiet       = true
    environment = merge(var.ways[each.key], local.master, {
      OVER   = local.over
      FILES  = local.files
      MASTER = var.inventory.nodes[var.inventory.master].private_address
      SERVED = var.served # the master runs
    })
  }
}

# The roles, as grains. A change of one node's touches that host alone.
resource "terraform_data" "grains" {
  for_each = var.inventory.nodes

  triggers_replace = {
    trust  = terraform_data.trust[each.key].id
    roles  = each.value.roles
    script = filesha256("${path.module}/files/grains.sh")
  }

  provisioner "local-exec" {
    command     = "\"$OVER\" \"$FILES/grains.sh\" \"$GRAINS\""
    interpreter = ["/bin/bash", "-c"]
    quiet       = true
    environment = merge(var.ways[each.key], {
      OVER   = local.over
      FILES  = local.files
      GRAINS = jsonencode({ cluster = var.inventory.cluster, roles = each.value.roles })
    })
  }
}

# The end of an apply: every node answers, with the code that the master serves.
resource "terraform_data" "answers" {
  triggers_replace = {
    served = var.served
    grains = { for name, grains in terraform_data.grains : name => grains.id }
    script = filesha256("${path.module}/files/answers.sh")
  }

  provisioner "local-exec" {
    command     = "\"$OVER\" \"$FILES/answers.sh\" $NODES"
    interpreter = ["/bin/bash", "-c"]
    quiet       = true
    environment = merge(var.ways[var.inventory.master], {
      OVER  = local.over
      FILES = local.files
      NODES = join(" ", [for name, trust in terraform_data.trust : "${name}=${trust.id}"])
    })
  }
}
