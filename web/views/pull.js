// Fetching a model, and how far that is.
import { ask, objects } from "../lib/api.js";
import { bytes } from "../lib/format.js";
import { Meter, Notice } from "../lib/parts.js";
import { html, useRef, useState } from "../lib/ui.js";
import { t } from "../strings.en.js";

/** The small model that whoever has none begins with. */
export const DEFAULT_MODEL = "smollm2-135m";

/** What fetches a model by its name: { state, pull, abort }. */
export function usePull(onDone) {
  const [state, set] = useState({});
  const aborts = useRef(null);
  const pull = async (name) => {
    aborts.current = new AbortController();
    set({ isPulling: true, status: t.models.begins });
    try {
      const { signal } = aborts.current;
      for await (const word of objects(await ask("POST", "/api/pull", { body: { model: name }, signal }))) {
        if (word.error) throw new Error(word.error);
        set({ isPulling: true, ...word });
      }
      set({ isDone: true });
      onDone();
    } catch (error) {
      set(error.name === "AbortError" ? {} : { error });
    }
  };
  return { state, pull, abort: () => aborts.current?.abort() };
}

export function Pulling({ of }) {
  return html`<div aria-live="polite">
    ${of.isPulling && html`<p class="about">${of.status}
        ${of.total > 0 && ` – ${bytes(of.completed ?? 0)} / ${bytes(of.total)}`}</p>
      <${Meter} label=${t.models.pullDo} value=${of.completed ?? 0} most=${of.total ?? 1} />`}
    ${of.isDone && html`<${Notice} kind="good">${t.models.pulled}</${Notice}>`}
    ${of.error && html`<${Notice} kind="bad">${of.error.message}</${Notice}>`}
  </div>`;
}
