# key.sh: prints the public key of this host's minion; the pair is made where there is none.
dir=/etc/salt/pki/minion
if [[ ! -s $dir/minion.pem || ! -s $dir/minion.pub ]]; then
    # salt-key would leave a master's key pair beside it
    /opt/libstorage/bin/python - "$dir" <<'EOF'
import os, sys
from cryptography.hazmat.primitives import serialization as form
from cryptography.hazmat.primitives.asymmetric import rsa

folder, key = sys.argv[1], rsa.generate_private_key(public_exponent=65537, key_size=2048)
private = key.private_bytes(form.Encoding.PEM, form.PrivateFormat.TraditionalOpenSSL, form.NoEncryption())
public = key.public_key().public_bytes(form.Encoding.PEM, form.PublicFormat.SubjectPublicKeyInfo)
for name, content, mode in (("minion.pem", private, 0o400), ("minion.pub", public, 0o644)):
    path = f"{folder}/{name}"
    if os.path.lexists(path):
        os.unlink(path)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(content)
EOF
fi
cat "$dir/minion.pub"
