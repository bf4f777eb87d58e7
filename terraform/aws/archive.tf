# The archive's bucket, and a key that may read and write in it and nothing else. Its secret is sealed with the PGP key
# before it leaves AWS's provider: plan, state and output have it in no other form.
resource "aws_s3_bucket" "archive" {
  count = var.archive == null ? 0 : 1

  bucket = var.archive.bucket

  lifecycle {
    prevent_destroy = true
  }
}

resource "aws_s3_bucket_public_access_block" "archive" {
  count = var.archive == null ? 0 : 1

  bucket                  = aws_s3_bucket.archive[0].id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_server_side_encryption_configuration" "archive" {
  count = var.archive == null ? 0 : 1

  bucket = aws_s3_bucket.archive[0].id

  rule {
    apply_server_side_encryption_by_default {
      sse_algorithm = "AES256"
    }
  }
}

resource "aws_iam_user" "archive" {
  count = var.archive == null ? 0 : 1

  name = "${var.cluster}-archive"
}

resource "aws_iam_user_policy" "archive" {
  count = var.archive == null ? 0 : 1

  name = "archive"
  user = aws_iam_user.archive[0].name
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Effect   = "Allow"
        Action   = ["s3:ListBucket", "s3:ListBucketMultipartUploads", "s3:GetBucketLocation"]
        Resource = aws_s3_bucket.archive[0].arn
      },
      {
        Effect   = "Allow"
        Action   = ["s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload", "s3:ListMultipartUploadParts"]
        Resource = "${aws_s3_bucket.archive[0].arn}/*"
      },
    ]
  })
}

resource "aws_iam_access_key" "archive" {
  count = var.archive == null ? 0 : 1

  user    = aws_iam_user.archive[0].name
  pgp_key = var.archive.pgp_key
}
