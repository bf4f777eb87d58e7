variable "cluster" {
  description = "The cluster's name: lower-case letters, digits and hyphens, at most 32 characters, beginning with a letter."
  type        = string
  nullable    = false
}

variable "region" {
  description = "The region of all hosts and disks, like fra1."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[a-z]{3}[0-9]$", var.region))
    error_message = "There is no region \"${var.region}\"; DigitalOcean names them like fra1."
  }
}

variable "nodes" {
  description = <<-EOT
    The hosts by name, which becomes the minion id. roles: of master (exactly one node), etcd (1, 3 or 5 nodes), ceph,
    docker. size: the droplet's. data_disks: volumes of so many GB by a short name; they outlive the droplet. instance:
    false keeps a node's data disks alone.
  EOT
  type = map(object({
    roles      = optional(list(string), [])
    size       = optional(string, "s-2vcpu-4gb")
    data_disks = optional(map(number), {})
    instance   = optional(bool, true)
  }))
  nullable = false

  validation {
    condition     = alltrue([for node in values(var.nodes) : can(regex("^[a-z][a-z0-9]*(-[a-z0-9]+)+$", node.size))])
    error_message = "A size is no droplet's: ${join(", ", [for name, node in var.nodes : "${node.size} (${name})" if !can(regex("^[a-z][a-z0-9]*(-[a-z0-9]+)+$", node.size))])}; they are named like s-2vcpu-4gb."
  }

  validation {
    condition     = alltrue(flatten([for node in values(var.nodes) : [for disk in keys(node.data_disks) : can(regex("^[a-z0-9]{1,12}$", disk))]]))
    error_message = "A data disk's name is not valid: ${join(", ", flatten([for name, node in var.nodes : [for disk in keys(node.data_disks) : "${disk} (${name})" if !can(regex("^[a-z0-9]{1,12}$", disk))]]))}; it has 1 to 12 lower-case letters and digits."
  }

  validation {
    condition     = alltrue(flatten([for node in values(var.nodes) : [for size in values(node.data_disks) : size >= 10 && size <= 16384 && floor(size) == size]]))
    error_message = "A data disk has a whole number of GB from 10 to 16384; see ${join(", ", flatten([for name, node in var.nodes : [for disk, size in node.data_disks : "${name}/${disk} (${size})" if size < 10 || size > 16384 || floor(size) != size]]))}."
  }

  validation {
    condition     = alltrue([for node in values(var.nodes) : length(node.data_disks) <= 7])
    error_message = "A droplet takes 7 data disks; see ${join(", ", [for name, node in var.nodes : name if length(node.data_disks) > 7])}."
  }

  validation {
    condition     = alltrue(flatten([for name, node in var.nodes : [for disk in keys(node.data_disks) : length("${var.cluster}-${name}-${disk}") <= 64]]))
    error_message = "A volume's name, cluster, node and disk with hyphens, would have more than 64 characters: ${join(", ", flatten([for name, node in var.nodes : [for disk in keys(node.data_disks) : "${var.cluster}-${name}-${disk}" if length("${var.cluster}-${name}-${disk}") > 64]]))}; use shorter names."
  }
}

variable "ssh" {
  description = <<-EOT
    How Terraform reaches the hosts. key_file: the private key's file on this machine; without it, the SSH agent's keys.
    public_key: its public key's line; by default what is in the file beside it, with the ending .pub. account_key: the
    fingerprint of that key where the account has it already, which it must not have twice. user: made at the first
    boot. The private key is read by ssh alone: it never enters plan or state.
  EOT
  type = object({
    key_file    = optional(string, "")
    public_key  = optional(string)
    account_key = optional(string)
    user        = optional(string, "terraform")
  })
  nullable = false

  validation {
    condition     = can(regex("^[a-z_][a-z0-9_-]*$", var.ssh.user)) && var.ssh.user != "root"
    error_message = "ssh.user is a user of the hosts' own, with lower-case letters, digits, hyphens and underscores only, and not root."
  }

  validation {
    condition     = var.ssh.key_file == "" ? true : fileexists(pathexpand(var.ssh.key_file))
    error_message = "There is no file ${var.ssh.key_file} on this machine; ssh.key_file names the private key whose public key the hosts get."
  }

  validation {
    condition     = can(regex("^(ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp(256|384|521)) [A-Za-z0-9+/=]+( [^\n]*)?\n?$", coalesce(var.ssh.public_key, try(file("${pathexpand(var.ssh.key_file)}.pub"), "none"))))
    error_message = "There is no public SSH key: give its line as ssh.public_key, or have it in the file ${var.ssh.key_file}.pub."
  }
}

variable "allowed_cidrs" {
  description = "The networks that may reach the hosts by SSH: where Terraform and the administrators are. Nothing else is open to the outside."
  type        = list(string)
  nullable    = false
}

variable "network" {
  description = "The private network of the hosts."
  type        = string
  default     = "10.42.0.0/20"
  nullable    = false
}

variable "image" {
  description = "What new hosts boot: a distribution's slug, or the id of a snapshot that has Salt below /opt/libstorage already. Hosts that are there keep theirs."
  type        = string
  default     = "debian-12-x64"
  nullable    = false

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9-]*$", var.image))
    error_message = "There is no image \"${var.image}\"; use a slug like debian-12-x64, or a snapshot's number."
  }
}

variable "archive" {
  description = "The Spaces bucket of the archive: its name, unique in all of DigitalOcean, and its region where that is another one. Without it there is none."
  type = object({
    bucket = string
    region = optional(string)
  })
  default = null

  validation {
    condition     = var.archive == null || can(regex("^[a-z0-9][a-z0-9-]{1,61}[a-z0-9]$", var.archive.bucket))
    error_message = "archive.bucket is no bucket's name: it has 3 to 63 lower-case letters, digits and hyphens, no hyphen at either end."
  }
}

variable "host_keys" {
  description = "Public SSH host keys by node, as the droplet's console shows them, for hosts that must not be known by their first contact alone."
  type        = map(string)
  default     = {}
  nullable    = false

  validation {
    condition     = alltrue([for key in values(var.host_keys) : can(regex("^(ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp(256|384|521)) [A-Za-z0-9+/=]+( [^\n]*)?$", key))])
    error_message = "host_keys has what is no public SSH host key; give the line of /etc/ssh/ssh_host_ed25519_key.pub."
  }
}

variable "known_hosts" {
  description = "The file on this machine in which a host's key is noted at the first contact; keep it beside the state. A host that shows another one later gets nothing."
  type        = string
  default     = "known_hosts"
  nullable    = false
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
