// Drawings of one line each, in the colour of the text.
import { html } from "./ui.js";

const PATHS = {
  chat: "M21 12a8 8 0 0 1-8 8H4l2.2-3A8 8 0 1 1 21 12z",
  models: "M12 3 3 7.5l9 4.5 9-4.5L12 3zM3 12l9 4.5 9-4.5M3 16.5 12 21l9-4.5",
  leaves: "M12 3l7.5 3v5.5c0 4.5-3.1 8-7.5 9.5-4.4-1.5-7.5-5-7.5-9.5V6L12 3zM9 11.8l2.2 2.2 4-4.2",
  limits: "M4 20V10M10 20V4M16 20v-7M21 20H3",
  operate: "M3 12h4l3-8 4 16 3-8h4",
  plus: "M12 5v14M5 12h14",
  search: "M11 4a7 7 0 1 1 0 14 7 7 0 0 1 0-14zM16 16l4.5 4.5",
  send: "M12 20V5M5.5 11.5 12 5l6.5 6.5",
  stop: "M7 7h10v10H7z",
  copy: "M9 9h10v11H9zM15 9V4H5v11h4",
  check: "M5 12.5 10 17.5 19.5 7",
  edit: "M4 20h4L19.5 8.5l-4-4L4 16v4zM13.5 6.5l4 4",
  again: "M4.5 12a7.5 7.5 0 1 1 2.2 5.3M4.5 19v-5h5",
  columns: "M4 5h16v14H4zM12 5v14",
  left: "M14.5 6 8.5 12l6 6",
  right: "M9.5 6l6 6-6 6",
  down: "M6 9.5l6 6 6-6",
  more: "M5 12h.01M12 12h.01M19 12h.01",
  trash: "M5 7h14M9 7V4h6v3M7 7l1 13h8l1-13",
  export: "M12 4v11M7.5 10.5 12 15l4.5-4.5M5 20h14",
  receipt: "M6 3.5h12V21l-3-2-3 2-3-2-3 2V3.5zM9 8h6M9 12h6",
  tune: "M4 7h9M17 7h3M4 17h3M11 17h9M15 4.5v5M9 14.5v5",
  close: "M6 6l12 12M18 6 6 18",
  lock: "M6 11h12v9H6zM8.5 11V8a3.5 3.5 0 0 1 7 0v3",
  unlock: "M6 11h12v9H6zM8.5 11V8a3.5 3.5 0 0 1 6.6-1.6",
  sun: "M12 8a4 4 0 1 1 0 8 4 4 0 0 1 0-8zM12 3v1.5M12 19.5V21M3 12h1.5M19.5 12H21M5.6 5.6l1 1M17.4 17.4l1 1M18.4 5.6l-1 1M6.6 17.4l-1 1",
  moon: "M20 14.5A8.5 8.5 0 0 1 9.5 4a8.5 8.5 0 1 0 10.5 10.5z",
  auto: "M12 4a8 8 0 1 1 0 16 8 8 0 0 1 0-16zM12 4v16M12 8h4M12 12h8M12 16h6",
  menu: "M4 7h16M4 12h16M4 17h16",
  image: "M4 5h16v14H4zM4 16l5-5 4 4 2.5-2.5L20 17M15.5 9h.01",
  key: "M8 11a4 4 0 1 1 0 8 4 4 0 0 1 0-8zM11 12.2 19.5 4M16 7.2l2.8 2.8",
  link: "M14 5h5v5M19 5l-8 8M16 14v5H5V8h5",
  help: "M12 4a8 8 0 1 1 0 16 8 8 0 0 1 0-16zM9.8 9.8a2.3 2.3 0 1 1 3.2 2.1c-.7.3-1 .8-1 1.6M12 16.5h.01",
};

/** A drawing beside a text, or with a name of its own where it stands alone. */
export function Icon({ name, label }) {
  return html`<svg class="icon" viewBox="0 0 24 24" aria-hidden=${label ? undefined : "true"}
    role=${label ? "img" : undefined} aria-label=${label}><path d=${PATHS[name]} /></svg>`;
}

/** The sign of the program, as in icon.svg; drawn in the page, since an image of its own is painted later. */
export const Logo = () => html`<svg class="logo" viewBox="0 0 32 32" aria-hidden="true">
  <rect width="32" height="32" rx="8" /><path d="M8 24V14.5L16 8l8 6.5V24h-5.5v-6h-5v6z" /></svg>`;
