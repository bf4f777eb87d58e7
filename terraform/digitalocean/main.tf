# Droplets, up to a Salt cluster that answers. What makes them a cluster is what the root `private` uses.
locals {
  project    = abspath("${path.module}/../..")
  key_file   = var.ssh.key_file == "" ? "" : abspath(pathexpand(var.ssh.key_file))
  public_key = trimspace(coalesce(var.ssh.public_key, try(file("${local.key_file}.pub"), "")))

  # The nodes that have a host, and all data disks, those of the others too.
  nodes = { for name, node in var.nodes : name => node if node.instance }
  disks = merge([
    for name, node in var.nodes : {
      for disk, size in node.data_disks : "${name}/${disk}" => { node = name, disk = disk, size = size }
    }
  ]...)

  # How ssh reaches a node, in the words of files/over.sh.
  ways = {
    for name, node in local.nodes : name => {
      NODE             = name
      SSH_ADDRESS      = digitalocean_droplet.node[name].ipv4_address
      SSH_PORT         = "22"
      SSH_HOST_KEY     = trimspace(lookup(var.host_keys, name, ""))
      SSH_IDENTITY     = digitalocean_droplet.node[name].id
      SSH_KNOWN        = abspath(pathexpand(var.known_hosts))
      SSH_BOOT         = "300" # seconds
      SSH_USER         = var.ssh.user
      SSH_KEY_FILE     = local.key_file
      BASTION_ADDRESS  = ""
      BASTION_PORT     = ""
      BASTION_HOST_KEY = ""
      BASTION_USER     = ""
    }
  }
}

module "inventory" {
  source = "../modules/inventory"

  cluster = var.cluster
  nodes = {
    for name, node in local.nodes : name => {
      address         = digitalocean_droplet.node[name].ipv4_address
      private_address = digitalocean_droplet.node[name].ipv4_address_private
      roles           = node.roles
      disks           = [for disk in keys(node.data_disks) : "/dev/disk/by-id/scsi-0DO_Volume_${var.cluster}-${name}-${disk}"]
    }
  }
}

module "access" {
  source = "../modules/access"

  network = var.network
  allowed = var.allowed_cidrs
}

module "first_boot" {
  source   = "../modules/first_boot"
  for_each = local.nodes

  name       = each.key
  user       = var.ssh.user
  public_key = local.public_key
}

module "bootstrap" {
  source = "../modules/bootstrap"

  inventory = module.inventory.inventory
  ways      = local.ways
  project   = local.project
  pillar    = var.pillar == "" ? "${local.project}/pillar" : abspath(var.pillar)

  # a host has its disks before it is a node, and keeps them until it has left
  depends_on = [digitalocean_volume_attachment.data]
}

module "join" {
  source = "../modules/join"

  inventory = module.inventory.inventory
  ways      = local.ways
  hosts     = module.bootstrap.hosts
  served    = module.bootstrap.served
  drain     = var.drain
}
