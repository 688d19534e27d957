// Keeps the page live. One tab holds the event stream and hands what arrives to
// the others over a BroadcastChannel: over HTTP/1.1 a browser opens six
// connections to a host at most, so seven tabs with a stream each would hang.
// Tabs elect by message and not by Web Locks, which browsers offer over HTTPS
// and on localhost only, and a gateway on the home's network is neither.

const SILENCE = 40_000; // ms without even a heartbeat (every 15 s): the stream is dead
const RETRY = 5_000; // ms between attempts while there is no stream

const me = Math.random(); // the tab with the lowest number leads
const channel = "BroadcastChannel" in window ? new BroadcastChannel("commonwatt") : null;
const chip = document.getElementById("stream");
const known = {}; // id -> HTML as last received, for tabs that open later

let source = null; // the EventSource, while this tab leads
let heard = 0; // when the stream, or the leading tab, was last heard
let polled = 0;

const live = (id) => document.querySelector(`#${CSS.escape(id)}[data-live]`);

// sync makes the children of one node like those of another, and leaves what is
// the same alone: open details, selections and transitions survive.
function sync(into, from) {
  const nodes = [...from.childNodes]; // a copy: append moves them
  nodes.forEach((node, i) => {
    const old = into.childNodes[i];
    if (!old) into.append(node);
    else if (old.nodeName !== node.nodeName) old.replaceWith(node);
    else if (node.nodeType !== Node.ELEMENT_NODE) {
      if (old.data !== node.data) old.data = node.data;
    } else {
      for (const { name } of [...old.attributes]) if (!node.hasAttribute(name)) old.removeAttribute(name);
      for (const { name, value } of node.attributes) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
      sync(old, node);
    }
  });
  while (into.childNodes.length > nodes.length) into.lastChild.remove();
}

function apply(event) {
  if (event.version !== document.body.dataset.version) return location.reload();
  for (const [id, html] of Object.entries(event.sections)) {
    known[id] = html;
    const element = live(id);
    if (!element) continue;
    const parsed = element.cloneNode(false); // parsed where it belongs: a tbody, a list
    parsed.innerHTML = html;
    sync(element, parsed);
  }
}

function online(yes) {
  if (yes === !document.body.classList.contains("offline")) return;
  document.body.classList.toggle("offline", !yes);
  const last = document.querySelector("#clock time").textContent.slice(0, 5);
  chip.textContent = yes ? "" : `offline, last data ${last}`;
  chip.hidden = yes;
}

const tell = (message) => channel?.postMessage({ from: me, ...message });

function lead() {
  source?.close();
  heard = Date.now();
  source = new EventSource("/events?view=page");
  source.addEventListener("update", (e) => {
    const event = JSON.parse(e.data);
    fresh();
    apply(event);
    tell({ event });
  });
  source.addEventListener("heartbeat", () => {
    fresh();
    tell({});
  });
  source.addEventListener("error", () => {
    online(false);
    tell({ offline: true });
  });
  tell({});
}

function fresh() {
  heard = Date.now();
  online(true);
}

function follow() {
  source?.close();
  source = null;
  heard = Date.now();
}

// poll reads the whole page once, for when every stream of the server is taken.
async function poll() {
  try {
    const answer = await fetch("/", { cache: "no-store", signal: AbortSignal.timeout(RETRY) });
    if (!answer.ok) return;
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const sections = {};
    for (const element of page.querySelectorAll("[data-live]")) sections[element.id] = element.innerHTML;
    const event = { version: page.body.dataset.version, sections };
    apply(event);
    online(true);
    tell({ event });
  } catch {
    // Still away: the page says so already.
  }
}

// watch notices what no event tells: a stream or a leading tab that died.
function watch() {
  const silent = Date.now() - heard > SILENCE;
  if (!source) {
    if (silent) lead();
  } else if (silent || source.readyState === EventSource.CLOSED) {
    if (Date.now() - polled < RETRY) return;
    polled = Date.now();
    poll().then(() => source && lead());
  }
}

channel?.addEventListener("message", ({ data }) => {
  if (data.hello) {
    const offline = document.body.classList.contains("offline");
    if (source) tell({ offline, event: { version: document.body.dataset.version, sections: known } });
    return;
  }
  if (data.bye) {
    setTimeout(() => Date.now() - heard > 500 && !source && lead(), 500 + me * 300);
    heard = 0;
    return;
  }
  if (source && data.from > me) return tell({}); // two lead: the other one yields
  if (source) follow();
  heard = Date.now();
  online(!data.offline);
  if (data.event) apply(data.event);
});

function start() {
  heard = 0;
  if (!channel) return lead();
  tell({ hello: true });
  setTimeout(() => heard || lead(), 150 + me * 200);
}

addEventListener("pagehide", () => {
  if (source) tell({ bye: true });
  source?.close();
  source = null;
});
addEventListener("pageshow", (e) => e.persisted && start());
document.addEventListener("visibilitychange", () => document.hidden || watch());
setInterval(watch, 1000);
start();
