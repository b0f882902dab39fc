// Conversations, in this browser only (IndexedDB): what the list shows of each apart from its
// contents, so that ten thousand of them are listed at once.

const VERSION = 1;
let opening = null;

function open() {
  opening ??= new Promise((resolve, reject) => {
    const request = indexedDB.open("freehold", VERSION);
    request.onupgradeneeded = () => {
      const heads = request.result.createObjectStore("heads", { keyPath: "id" });
      heads.createIndex("updated", "updated");
      request.result.createObjectStore("contents", { keyPath: "id" });
    };
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
  return opening;
}

const ended = (request) =>
  new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });

async function stores(mode) {
  const transaction = (await open()).transaction(["heads", "contents"], mode);
  const done = new Promise((resolve, reject) => {
    transaction.oncomplete = resolve;
    transaction.onabort = transaction.onerror = () => reject(transaction.error);
  });
  done.catch(() => {});
  return {
    heads: transaction.objectStore("heads"), contents: transaction.objectStore("contents"), done,
  };
}

/** Hands the values of a cursor to `each` until that returns false. */
function walk(request, each) {
  return new Promise((resolve, reject) => {
    request.onerror = () => reject(request.error);
    request.onsuccess = () => {
      const cursor = request.result;
      if (!cursor || each(cursor.value, cursor) === false) resolve();
      else cursor.continue();
    };
  });
}

/** The newest conversations, without contents. */
export async function list(limit) {
  const { heads } = await stores("readonly");
  const found = [];
  await walk(heads.index("updated").openCursor(null, "prev"), (head) => found.push(head) < limit);
  return found;
}

export async function count() {
  return ended((await stores("readonly")).heads.count());
}

export async function load(id) {
  return ended((await stores("readonly")).contents.get(id));
}

export async function save(conversation) {
  const { id, title, created, updated } = conversation;
  const { heads, contents, done } = await stores("readwrite");
  heads.put({ id, title, created, updated });
  contents.put(conversation);
  return done;
}

export async function erase(id) {
  const { heads, contents, done } = await stores("readwrite");
  heads.delete(id);
  contents.delete(id);
  return done;
}

export async function eraseAll() {
  const { heads, contents, done } = await stores("readwrite");
  heads.clear();
  contents.clear();
  return done;
}

/** How many conversations nobody has touched since `before` (milliseconds since 1970). */
export async function countBefore(before) {
  return ended((await stores("readonly")).heads.index("updated").count(IDBKeyRange.upperBound(before, true)));
}

/** Erases what nobody has touched since `before` (milliseconds since 1970). */
export async function eraseBefore(before) {
  const { heads, contents, done } = await stores("readwrite");
  await walk(heads.index("updated").openCursor(IDBKeyRange.upperBound(before, true)), (head, cursor) => {
    contents.delete(head.id);
    cursor.delete();
  });
  return done;
}

/** The texts of a conversation, in which it is found. */
function* texts(conversation) {
  yield conversation.title;
  for (const node of Object.values(conversation.nodes)) yield node.text;
}

/** Conversations with all of these words, newest first, each with the text around the first. */
export async function search(query, limit) {
  const words = query.toLowerCase().split(/\s+/).filter(Boolean);
  const { contents } = await stores("readonly");
  const found = [];
  await walk(contents.openCursor(), (conversation) => {
    const all = [...texts(conversation)].filter(Boolean);
    const whole = all.join("\n").toLowerCase();
    if (!words.every((word) => whole.includes(word))) return;
    const text = all.find((one) => one.toLowerCase().includes(words[0])) ?? "";
    const at = Math.max(0, text.toLowerCase().indexOf(words[0]) - 30);
    const { id, title, updated } = conversation;
    found.push({ id, title, updated, around: text.slice(at, at + 90) });
  });
  return found.sort((one, other) => other.updated - one.updated).slice(0, limit);
}

/** All conversations, for whoever takes them elsewhere. */
export async function all() {
  return ended((await stores("readonly")).contents.getAll());
}
