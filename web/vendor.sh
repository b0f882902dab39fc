#!/usr/bin/env bash
# Fetches the libraries of the page from npm, by the names, versions and SHA-256 of vendor/versions.txt,
# and writes what the page uses of them into vendor/. Only imports are rewritten, so that a browser
# finds them without a map. `web/vendor.sh check` fetches nothing and holds vendor/ to its sums.
set -euo pipefail
cd "$(dirname "$0")/vendor"

if [ "${1-}" = check ]; then exec sha256sum --check --quiet SHA256SUMS; fi

WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT
while read -r name version sum; do
    archive=$(cd "$WORK" && npm pack --silent "$name@$version")
    echo "$sum  $WORK/$archive" | sha256sum --check --quiet
    mkdir -p "$WORK/$name"
    tar xzf "$WORK/$archive" -C "$WORK/$name" --strip-components=1
done <versions.txt

# plain FILE: without the line that leads to a source map.
plain() {
    sed -e 's|//# sourceMappingURL=.*||' -e '/^$/d' "$WORK/$1"
}

plain preact/dist/preact.mjs >preact.js
plain preact/hooks/dist/hooks.mjs | sed 's|from"preact"|from"./preact.js"|' >hooks.js
plain htm/dist/htm.mjs >htm.js
plain @preact/signals-core/dist/signals-core.mjs >signals-core.js
plain @preact/signals/dist/signals.mjs | sed -e 's|from"preact"|from"./preact.js"|' \
    -e 's|from"preact/hooks"|from"./hooks.js"|' \
    -e 's|from"@preact/signals-core"|from"./signals-core.js"|g' >signals.js
plain marked/lib/marked.esm.js >marked.js
{ plain dompurify/dist/purify.min.js && echo 'export default globalThis.DOMPurify;'; } >purify.js
{ plain uplot/dist/uPlot.iife.min.js && echo 'export default uPlot;'; } >uplot.js
plain uplot/dist/uPlot.min.css >uplot.css
plain @highlightjs/cdn-assets/es/core.min.js >highlight.js
for language in bash c cpp css diff go java javascript json python rust sql typescript xml yaml; do
    plain "@highlightjs/cdn-assets/es/languages/$language.min.js" |
        sed "s|export default hljsGrammar;*|export const $language=hljsGrammar;|"
done >languages.js
for name in $(cut -d' ' -f1 versions.txt); do
    printf '==== %s\n\n' "$name"
    cat "$WORK/$name/LICENSE"
    printf '\n'
done >LICENCES.txt
sha256sum -- *.js *.css LICENCES.txt >SHA256SUMS
