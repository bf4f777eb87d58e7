variable "cluster" {
  description = "The cluster's name: lower-case letters, digits and hyphens, at most 32 characters, beginning with a letter."
  type        = string
  nullable    = false
}

variable "nodes" {
  description = <<-EOT
    The hosts by name, which becomes the minion id. address: where SSH reaches it. host_key: its public SSH host key
    ("ssh-ed25519 AAAA..."), as /etc/ssh/ssh_host_ed25519_key.pub has it; nothing is sent to a host that shows another
    one. roles: of master (exactly one node), etcd (1, 3 or 5 nodes), ceph, docker. private_address: where the other
    nodes reach it, if that is another address. port: of its SSH server.
  EOT
  type = map(object({
    address         = string
    host_key        = string
    roles           = optional(list(string), [])
    private_address = optional(string)
    port            = optional(number, 22)
  }))
  nullable = false

  validation {
    condition = length([
      for node in values(var.nodes) : node
      if !can(regex("^(ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp(256|384|521)) [A-Za-z0-9+/=]+( [^\n]*)?$", node.host_key))
    ]) == 0
    error_message = "host_key is no public SSH host key for ${join(", ", [
      for name, node in var.nodes : name
      if !can(regex("^(ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp(256|384|521)) [A-Za-z0-9+/=]+( [^\n]*)?$", node.host_key))
    ])}; give the line of /etc/ssh/ssh_host_ed25519_key.pub."
  }

  validation {
    condition = length([
      for node in values(var.nodes) : node
      if !can(regex("^[A-Za-z0-9][A-Za-z0-9.:-]*$", node.address)) || !can(regex("^[A-Za-z0-9][A-Za-z0-9.:-]*$", coalesce(node.private_address, node.address)))
    ]) == 0
    error_message = "An address is neither an IP address nor a host name: ${join(", ", [
      for name, node in var.nodes : name
      if !can(regex("^[A-Za-z0-9][A-Za-z0-9.:-]*$", node.address)) || !can(regex("^[A-Za-z0-9][A-Za-z0-9.:-]*$", coalesce(node.private_address, node.address)))
    ])}."
  }

  validation {
    condition     = alltrue([for node in values(var.nodes) : node.port >= 1 && node.port <= 65535 && floor(node.port) == node.port])
    error_message = "A port is a whole number from 1 to 65535; see ${join(", ", [for name, node in var.nodes : name if node.port < 1 || node.port > 65535 || floor(node.port) != node.port])}."
  }
}

variable "ssh" {
  description = <<-EOT
    How the hosts are reached. user: root, or one who may use sudo without a password. key_file: the private key's file
    on this machine; without it, the SSH agent's keys. bastion: a host in between, with the host key that it must show.
    The key itself is read by ssh alone: it never enters plan or state.
  EOT
  type = object({
    user     = optional(string, "root")
    key_file = optional(string, "")
    bastion = optional(object({
      address  = string
      host_key = string
      user     = optional(string, "root")
      port     = optional(number, 22)
    }))
  })
  default  = {}
  nullable = false

  validation {
    condition     = can(regex("^[a-z_][a-z0-9_-]*$", var.ssh.user)) && (var.ssh.bastion == null || can(regex("^[a-z_][a-z0-9_-]*$", var.ssh.bastion.user)))
    error_message = "An SSH user's name has lower-case letters, digits, hyphens and underscores only."
  }

  validation {
    condition     = var.ssh.key_file == "" ? true : fileexists(pathexpand(var.ssh.key_file))
    error_message = "There is no file ${var.ssh.key_file} on this machine; ssh.key_file names the private key that the hosts accept."
  }

  validation {
    condition     = var.ssh.bastion == null || can(regex("^(ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp(256|384|521)) [A-Za-z0-9+/=]+( [^\n]*)?$", var.ssh.bastion.host_key))
    error_message = "ssh.bastion.host_key is no public SSH host key; give the line of the bastion's /etc/ssh/ssh_host_ed25519_key.pub."
  }
}

variable "pillar" {
  description = "The folder on this machine with the cluster's pillar (top.sls in it); by default the project's own."
  type        = string
  default     = ""
  nullable    = false

  validation {
    condition     = var.pillar == "" ? true : fileexists("${var.pillar}/top.sls")
    error_message = "There is no ${var.pillar}/top.sls; pillar names a folder with Salt's pillar."
  }
}

variable "drain" {
  description = "Drain a node before it leaves: one whose volumes are in use is then not removed. false removes it all the same."
  type        = bool
  default     = true
  nullable    = false
}
