terraform {
  required_version = ">= 1.9"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.100, < 7.0"
    }
  }
}

# Credentials come from the environment or from the AWS profile.
provider "aws" {
  region = var.region

  default_tags {
    tags = { cluster = var.cluster }
  }
}
