// Who has signed in, where people sign in with an issuer: a line above the foot of the bar.
import { perhaps, post } from "../lib/api.js";
import { Icon } from "../lib/icons.js";
import { Button, useAsked } from "../lib/parts.js";
import { html, useState } from "../lib/ui.js";
import { t } from "../strings.en.js";

const SESSION_MS = 60_000;

export function Session() {
  const asked = useAsked(() => perhaps("/session"), SESSION_MS);
  const [error, setError] = useState(null);
  const { login, session } = asked.value ?? {};
  if (!login) return null;
  if (!session) {
    return html`<p class="session"><a class="button small" id="sign-in" href=${login}>
      <${Icon} name="key" /><span>${t.session.signIn}</span></a></p>`;
  }
  const signOut = async () => {
    try {
      await post("/logout");
      location.reload();
    } catch (refused) {
      setError(refused);
    }
  };
  return html`<p class="session"><span class="quiet" id="signed-in">${t.session.as(session.name, session.role)}</span>
    <${Button} kind="plain" small label=${t.session.signOut} onClick=${signOut} more=${{ id: "sign-out" }} />
    ${error && html`<span role="alert">${error.message}</span>`}</p>`;
}
