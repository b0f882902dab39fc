// What all of the page is made with, and where it is: views are addresses behind the #.
import htm from "../vendor/htm.js";
import { h, render, Fragment } from "../vendor/preact.js";

export { useEffect, useLayoutEffect, useMemo, useRef, useState } from "../vendor/hooks.js";
export { batch, computed, effect, signal, useSignal } from "../vendor/signals.js";
import { signal } from "../vendor/signals.js";

export { Fragment, render };
export const html = htm.bind(h);

/** The view and what it shows, such as ["chat", ID]. */
export const place = signal(read());

function read() {
  const parts = location.hash.replace(/^#\/?/, "").split("/").filter(Boolean);
  try {
    return parts.length ? parts.map(decodeURIComponent) : ["chat"];
  } catch {
    return ["chat"];
  }
}

addEventListener("hashchange", () => (place.value = read()));

/** Goes to a view; `replace`: without a step back to where one was. */
export function go(parts, { replace = false } = {}) {
  const hash = `#/${parts.map(encodeURIComponent).join("/")}`;
  if (replace) history.replaceState(null, "", hash);
  else if (location.hash !== hash) location.hash = hash;
  place.value = parts;
}

/** Calls `work` now and each `ms` while the page is seen; returns what ends that. */
export function every(ms, work) {
  const tick = () => document.visibilityState === "visible" && work();
  tick();
  const timer = setInterval(tick, ms);
  return () => clearInterval(timer);
}
