// What this browser keeps of its user's wishes, in localStorage: no secret but a key that was typed in.
import { effect, signal } from "../vendor/signals.js";

function kept(name, fallback) {
  let value = fallback;
  try {
    const text = localStorage.getItem(`freehold.${name}`);
    if (text !== null) value = JSON.parse(text);
  } catch {
    // A browser without storage, or a value that somebody broke: as if nothing was kept.
  }
  const of = signal(value);
  effect(() => {
    const text = JSON.stringify(of.value);
    try {
      localStorage.setItem(`freehold.${name}`, text);
    } catch {
      // Then it lasts as long as the page.
    }
  });
  return of;
}

/** "auto", "light" or "dark". */
export const theme = kept("theme", "auto");
/** Days for which conversations stay in this browser; 0: for ever, -1: not at all. */
export const keepDays = kept("keep-days", 0);
/** Days for which the server keeps what this page's user says, where it said so since the page began: erasing goes by
 * no older word. */
export const ownersDays = signal(null);
/** The days of the owner's of which this browser's user was told before anything was erased by them. */
export const ownersTold = kept("owners-told", 0);

/** Days for which conversations do stay: no longer than the owner of the server keeps them. */
export function daysKept() {
  const [own, most] = [keepDays.value, ownersDays.value];
  if (!most || own < 0) return own;
  return own === 0 ? most : Math.min(own, most);
}

/** The key to send, if one was given. */
export const key = kept("key", "");
/** The model that new conversations ask. */
export const lastModel = kept("model", "");
/** System prompt and parameters that new conversations begin with. */
export const lastOptions = kept("options", {});
/** Whether the first steps were done or put away. */
export const welcomed = kept("welcomed", false);

effect(() => {
  const { dataset } = document.documentElement;
  if (theme.value === "auto") delete dataset.theme;
  else dataset.theme = theme.value;
});
