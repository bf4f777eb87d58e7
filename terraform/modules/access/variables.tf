variable "network" {
  description = "The cluster's own network: a private IPv4 range from /16 to /26."
  type        = string
  nullable    = false

  validation {
    condition     = can(cidrnetmask(var.network)) && try(cidrsubnet(var.network, 0, 0) == var.network, false)
    error_message = "network is no IPv4 network: \"${var.network}\"; write it like 10.42.0.0/20, with no bits set beyond its length."
  }

  validation {
    condition = try(
      tonumber(split("/", var.network)[1]) >= 16 && tonumber(split("/", var.network)[1]) <= 26 && length([
        for range in ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"] : range
        if cidrsubnet("${split("/", var.network)[0]}/${split("/", range)[1]}", 0, 0) == range
      ]) == 1,
      true # the first validation says what is wrong
    )
    error_message = "network ${var.network} must be a private range (of 10.0.0.0/8, 172.16.0.0/12 or 192.168.0.0/16) and have a length from /16 to /26."
  }
}

variable "allowed" {
  description = "The networks that may reach the hosts' SSH servers."
  type        = list(string)
  nullable    = false

  validation {
    condition     = length(var.allowed) > 0
    error_message = "allowed_cidrs is empty: nobody could reach the hosts; name the network that Terraform runs in, like 198.51.100.7/32."
  }

  validation {
    condition     = alltrue([for cidr in var.allowed : try(cidrsubnet(cidr, 0, 0) == cidr, false)])
    error_message = "allowed_cidrs has what is no network: ${join(", ", [for cidr in var.allowed : cidr if !try(cidrsubnet(cidr, 0, 0) == cidr, false)])}; write it like 198.51.100.0/24, with no bits set beyond its length."
  }

  validation {
    condition     = alltrue([for cidr in var.allowed : try(tonumber(split("/", cidr)[1]) >= (strcontains(cidr, ":") ? 32 : 8), true)])
    error_message = "allowed_cidrs is open to the world: ${join(", ", [for cidr in var.allowed : cidr if try(tonumber(split("/", cidr)[1]) < (strcontains(cidr, ":") ? 32 : 8), false)])}; name the networks that administrators come from, of at least /8 (IPv6: /32)."
  }

  validation {
    # two networks overlap where they are the same at the shorter of their lengths; an open one was refused above
    condition = try(length([
      for pair in setproduct(var.allowed, concat(var.allowed, [var.network])) : pair
      if pair[0] != pair[1] && strcontains(pair[0], ":") == strcontains(pair[1], ":") &&
      min([for cidr in pair : tonumber(split("/", cidr)[1])]...) >= 8 && length(distinct([
        for cidr in pair : cidrsubnet("${split("/", cidr)[0]}/${min([for one in pair : tonumber(split("/", one)[1])]...)}", 0, 0)
      ])) == 1
    ]) == 0 && length(distinct(var.allowed)) == length(var.allowed), true)
    error_message = "Networks overlap in allowed_cidrs (${join(", ", var.allowed)}) or with the cluster's own, ${var.network}; name each address once."
  }
}
