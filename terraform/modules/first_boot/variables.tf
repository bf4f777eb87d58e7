variable "name" {
  description = "The host's name."
  type        = string
}

variable "user" {
  description = "The user that Terraform comes as; it may use sudo without a password, and has none."
  type        = string
}

variable "public_key" {
  description = "The public SSH key that lets it in."
  type        = string
}
