// Keys and the projects they belong to: made, given another secret, and ended.
import { perhaps, post, remove } from "../lib/api.js";
import { when } from "../lib/format.js";
import {
  ASKED_MS, Asked, Badge, Button, CopyButton, Dialog, Field, Notice, Section, Table, confirm, useAsked,
} from "../lib/parts.js";
import { html, useState } from "../lib/ui.js";
import { t } from "../strings.en.js";
import { rowsOf } from "./leaves.js";

const DAY_S = 86_400;
/** Seconds for which the secret before a rotation may still be taken. */
const OVERLAPS = [0, 3600, DAY_S, 7 * DAY_S];
const ROLES = ["owner", "operator", "auditor", "user"];
const LABELS = ["internal", "public"];
/** A key of which nothing is said. */
const PLAIN = { name: "", project: "", person: "", models: "", routes: "", role: "", label: "", expires: "", keep: "" };

export function Keys() {
  const [made, setMade] = useState({});
  const [turning, turn] = useState(null);
  const projects = rowsOf(useAsked(() => perhaps("/admin/projects").catch(() => null), ASKED_MS).value);
  const attempt = async (work, again) => {
    try {
      setMade(await work());
      again();
      return true;
    } catch (error) {
      setMade({ error });
      return false;
    }
  };
  const make = (body, again) => attempt(async () => ({ key: await post("/admin/keys", body) }), again);
  const rotate = (of, overlap, again) => attempt(async () => {
    turn(null);
    return { key: await post(`/admin/keys/${encodeURIComponent(of.id)}/rotate`, { overlap }), overlap };
  }, again);
  const revoke = async (of, again) => {
    const question = t.limits.revokeQuestion(of.name);
    if (!(await confirm(question, { about: t.limits.revokeAbout, yes: t.limits.revoke }))) return;
    attempt(async () => {
      await remove(`/admin/keys/${encodeURIComponent(of.id)}`);
      return {};
    }, again);
  };
  return html`<${Section} title=${t.limits.keys} about=${t.limits.keysAbout}>
    ${made.error && html`<${Notice} kind="bad">${made.error.message}</${Notice}>`}
    ${made.key && html`<${Notice} kind="good">${made.overlap === undefined ? t.limits.made
        : t.limits.rotated(made.key.name, made.overlap)}
      <div class="command"><code>${made.key.secret}</code>
        <${CopyButton} text=${made.key.secret} /></div></${Notice}>`}
    <${Asked} path="/admin/keys" absent=${t.limits.noKeys}>${(asked) => html`
      <${NewKey} projects=${projects} onMake=${(body) => make(body, asked.again)} />
      <${Table} caption=${t.limits.keys} empty=${t.limits.noneYet}
        heads=${[t.limits.name, t.limits.project, t.limits.scope, t.limits.since, t.limits.until, ""]}
        rows=${rowsOf(asked.value).map((of) => [html`<strong>${of.name}</strong> <code>${of.id}</code>`,
          of.project ?? "–", scope(of, projects), when(of.created_at * 1000),
          of.revoked_at ? html`<${Badge} kind="warn">${t.limits.revoked}</${Badge}>`
            : of.expires_at ? when(of.expires_at * 1000) : t.limits.noEnd,
          !of.revoked_at && html`<span class="whole">
            <${Button} small label=${t.limits.rotate} onClick=${() => turn(of)} />
            <${Button} small label=${t.limits.revoke} onClick=${() => revoke(of, asked.again)} /></span>`])} />
      ${turning && html`<${Rotate} of=${turning} onClose=${() => turn(null)}
        onRotate=${(overlap) => rotate(turning, overlap, asked.again)} />`}
    `}</${Asked}>
  </${Section}>`;
}

/** What a key may do, and what its requests get, as far as it is not what any key does and gets. */
function scope({ scopes, defaults, project }, projects) {
  const { role, admin, models, routes } = scopes ?? {};
  const { label, keep } = defaults ?? {};
  const may = [role ?? (admin && "admin"), models?.join(", "), routes?.join(", ")].filter(Boolean);
  const byProject = projects.find((one) => one.name === project)?.keep;
  const kept = keep ? t.limits.keeps(keep) : byProject && t.limits.keepsByProject(byProject);
  const gets = [label && label !== "private" && label, kept].filter(Boolean);
  return [may.join("; ") || t.limits.all, ...gets].join("; ");
}

const names = (text) => text.split(",").map((one) => one.trim()).filter(Boolean);

/** A number, or the text as it is: the server says what is wrong with that. */
function number(text, times = 1) {
  const n = Number(text) * times;
  return Number.isFinite(n) ? n : text;
}

/** What is sent: nothing of what was left open. */
function request(of) {
  const body = { name: of.name };
  for (const name of ["project", "person", "role", "label"]) if (of[name]) body[name] = of[name];
  // Commas alone are no model and no route, which is not the same as all.
  for (const name of ["models", "routes"]) if (of[name].trim()) body[name] = names(of[name]);
  if (of.keep) body.keep = number(of.keep);
  if (of.expires) body.expires_in = number(of.expires, DAY_S);
  // A role says which routes.
  if (of.role) delete body.routes;
  return body;
}

/** A name is all that it takes; the rest is there for whoever opens it. */
function NewKey({ projects, onMake }) {
  const [of, set] = useState(PLAIN);
  const field = (name) => (event) => set({ ...of, [name]: event.target.value });
  const more = t.limits.newKey;
  const text = (name, disabled) => html`<${Field} label=${more[name]} about=${more.about[name]}>
    <input type="text" name=${name} value=${of[name]} disabled=${disabled} onInput=${field(name)} /></${Field}>`;
  const pick = (name, none, all) => html`<${Field} label=${more[name]} about=${more.about[name]}>
    <select name=${name} value=${of[name]} onChange=${field(name)}>
      <option value="">${none}</option>
      ${all.map((one) => html`<option value=${one}>${one}</option>`)}</select></${Field}>`;
  return html`<form id="new-key" onSubmit=${async (event) => {
    event.preventDefault();
    if (await onMake(request(of))) set(PLAIN);
  }}>
    <div class="inline">
      <input type="text" aria-label=${t.limits.keyName} placeholder=${t.limits.keyName} value=${of.name} required
        onInput=${field("name")} />
      <button class="button primary" disabled=${!of.name}>${t.limits.make}</button>
    </div>
    <details><summary>${more.more}</summary>
      <div class="pairs new-key">
        ${pick("project", more.none, projects.map((one) => one.name))}
        ${text("person")}${text("models")}${pick("role", more.byRoutes, ROLES)}${text("routes", Boolean(of.role))}
        ${pick("label", more.private, LABELS)}${text("expires")}${text("keep")}
      </div>
    </details>
  </form>`;
}

/** Asks for how long the secret that a key has is taken beside the new one. */
function Rotate({ of, onRotate, onClose }) {
  const [overlap, set] = useState(0);
  return html`<${Dialog} title=${t.limits.rotateQuestion(of.name)} onClose=${onClose}>
    <p>${t.limits.rotateAbout}</p>
    <${Field} label=${t.limits.overlap}><select name="overlap" value=${overlap}
      onChange=${(event) => set(Number(event.target.value))}>
      ${OVERLAPS.map((seconds) => html`<option value=${seconds}>${t.limits.overlaps[seconds]}</option>`)}
    </select></${Field}>
    <div class="actions">
      <${Button} label=${t.no} onClick=${onClose} />
      <${Button} kind="primary" label=${t.limits.rotate} onClick=${() => onRotate(overlap)} />
    </div>
  </${Dialog}>`;
}

/** Groups of keys, for which there are sums and limits. */
export function Projects() {
  const [name, setName] = useState("");
  const [keep, setKeep] = useState("");
  const [failed, setFailed] = useState(null);
  const act = async (work, again) => {
    await work().then(() => setFailed(null), setFailed);
    again();
  };
  const make = (again) => act(async () => {
    await post("/admin/projects", keep.trim() ? { name, keep: number(keep) } : { name });
    setName("");
    setKeep("");
  }, again);
  const drop = async (of, again) => {
    const question = t.limits.removeQuestion(of.name);
    if (!(await confirm(question, { about: t.limits.removeAbout, yes: t.limits.remove }))) return;
    act(() => remove(`/admin/projects/${encodeURIComponent(of.name)}`), again);
  };
  return html`<${Section} title=${t.limits.projects} about=${t.limits.projectsAbout}>
    ${failed && html`<${Notice} kind="bad">${failed.message}</${Notice}>`}
    <${Asked} path="/admin/projects" absent=${t.limits.noKeys}>${(asked) => html`
      <form class="inline" onSubmit=${(event) => {
        event.preventDefault();
        make(asked.again);
      }}>
        <input type="text" aria-label=${t.limits.projectName} placeholder=${t.limits.projectName} value=${name} required
          onInput=${(event) => setName(event.target.value)} />
        <input type="text" inputmode="numeric" aria-label=${t.limits.projectKeep} placeholder=${t.limits.projectKeep}
          value=${keep} onInput=${(event) => setKeep(event.target.value)} />
        <button class="button" disabled=${!name}>${t.limits.makeProject}</button>
      </form>
      <${Table} caption=${t.limits.projects} empty=${t.limits.noProjects}
        heads=${[t.limits.name, t.limits.projectKeep, t.limits.since, ""]}
        rows=${rowsOf(asked.value).map((of) => [html`<strong>${of.name}</strong>`,
          of.keep ? t.limits.projectKeeps(of.keep) : "–", when(of.created_at * 1000),
          html`<${Button} small label=${t.limits.remove} onClick=${() => drop(of, asked.again)} />`])} />
    `}</${Asked}>
  </${Section}>`;
}
