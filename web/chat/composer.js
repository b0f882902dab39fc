// Where a message is written.
import { Button } from "../lib/parts.js";
import { html, useEffect, useRef, useState } from "../lib/ui.js";
import { t } from "../strings.en.js";

/** Longest image that is sent, in bytes. */
const N_IMAGE_BYTES_MAX = 8 << 20;

export function Composer({ runs, takesImages, onSend, onStop, onEditLast, conversationId }) {
  const area = useRef(null);
  const [text, setText] = useState("");
  const [images, setImages] = useState([]);
  useEffect(() => fit(area.current), [text]);
  useEffect(() => {
    if (matchMedia("(hover: hover)").matches) area.current.focus();
  }, [conversationId]);
  const send = () => {
    if (runs || !text.trim()) return;
    onSend(text, images);
    setText("");
    setImages([]);
  };
  const onKey = (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      send();
    } else if (event.key === "ArrowUp" && !text) {
      event.preventDefault();
      onEditLast();
    }
  };
  return html`<form class="composer" onSubmit=${(event) => event.preventDefault()}>
    <div class="composer-in">
      ${images.length > 0 && html`<div class="images">${images.map((url) =>
        html`<img src=${url} alt=${t.chat.sentImage} />`)}</div>`}
      <textarea ref=${area} id="composer" rows="1" value=${text} placeholder=${t.chat.placeholder}
        aria-label=${t.chat.placeholder} onInput=${(event) => setText(event.target.value)}
        onKeyDown=${onKey}></textarea>
      <div class="composer-acts">
        ${takesImages && html`<${Attach} onImage=${(url) => setImages((all) => [...all, url])} />`}
        ${runs
          ? html`<${Button} kind="primary round" icon="stop" label=${t.chat.stop} onClick=${onStop}
              more=${{ "aria-label": t.chat.stop, id: "stop" }} />`
          : html`<${Button} kind="primary round" icon="send" label=${t.chat.send} disabled=${!text.trim()}
              onClick=${send} more=${{ "aria-label": t.chat.send, id: "send" }} />`}
      </div>
    </div>
    <p class="hint">${t.chat.hint}</p>
  </form>`;
}

/** As high as its text, within bounds. */
function fit(area) {
  area.style.height = "auto";
  area.style.height = `${Math.min(area.scrollHeight, 240)}px`;
}

function Attach({ onImage }) {
  const input = useRef(null);
  const take = () => {
    for (const file of input.current.files) {
      if (file.size > N_IMAGE_BYTES_MAX || !file.type.startsWith("image/")) continue;
      const reader = new FileReader();
      reader.onload = () => onImage(reader.result);
      reader.readAsDataURL(file);
    }
    input.current.value = "";
  };
  return html`<input ref=${input} type="file" accept="image/*" multiple hidden onChange=${take} />
    <${Button} kind="bare" icon="image" label=${t.chat.attach} onClick=${() => input.current.click()} />`;
}
