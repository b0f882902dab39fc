// What runs first: it waits until the page is painted, so that nothing of the rest is in the way of
// that, and then has the browser fetch all of it at once. One after the other modules would say what
// they need.
const MODULES = [
  "strings.en.js",
  "lib/api.js", "lib/chart.js", "lib/format.js", "lib/history.js", "lib/icons.js", "lib/markdown.js",
  "lib/parts.js", "lib/settings.js", "lib/ui.js",
  "chat/answer.js", "chat/ask.js", "chat/composer.js", "chat/conversation.js", "chat/message.js",
  "chat/options.js", "chat/receipt.js", "chat/sidebar.js", "chat/view.js",
  "views/gate.js", "views/keys.js", "views/leaves.js", "views/limits.js", "views/lock.js", "views/models.js",
  "views/operate.js", "views/own.js", "views/plots.js", "views/policy.js", "views/pull.js", "views/session.js",
  "views/upkeep.js", "views/usage.js", "views/welcome.js",
  "vendor/highlight.js", "vendor/hooks.js", "vendor/htm.js", "vendor/languages.js", "vendor/marked.js",
  "vendor/preact.js", "vendor/purify.js", "vendor/signals-core.js", "vendor/signals.js",
];
/** Styles of what is not seen at first; the others stand in the page itself, as it is sent. */
const STYLES = ["style/views.css", "vendor/uplot.css"];
/** Where nothing is painted, as in a tab that nobody looks at, it begins all the same. */
const WAIT_MS = 200;

/** Asks for a file; resolves when it is here, or will not be. */
function link(rel, name) {
  const element = document.createElement("link");
  element.rel = rel;
  element.href = `/web/${name}`;
  return new Promise((resolve) => {
    element.onload = element.onerror = resolve;
    document.head.append(element);
  });
}

let hasBegun = false;
async function begin() {
  if (hasBegun) return;
  hasBegun = true;
  const styles = STYLES.map((name) => link("stylesheet", name));
  MODULES.forEach((name) => link("modulepreload", name));
  // No view is to be seen without its style.
  await Promise.all(styles);
  import("./app.js");
}

// A frame is painted behind what was asked for it; a task comes behind that.
requestAnimationFrame(() => setTimeout(begin));
setTimeout(begin, WAIT_MS);
