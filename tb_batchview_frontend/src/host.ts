// TensorBoard around us: its reload message, its dark mode, its address line, its font, and whether our tab is seen.
// Every look at the parent may be refused (a foreign page may embed us); then the page works on its own.

const PREFIX = "p.batchview.";

function parentWindow(): Window | null {
  try {
    // Reading the document throws when the parent is of another origin.
    return window.parent !== window && window.parent.document ? window.parent : null;
  } catch {
    return null;
  }
}

const host = (): Window => parentWindow() ?? window;

/** Split TensorBoard's hash, `#batchview&p.batchview.run=a`, into our keys and all the rest. */
export function splitHash(hash: string): { ours: Record<string, string>; rest: string[] } {
  const ours: Record<string, string> = {};
  const rest: string[] = [];
  for (const part of hash.replace(/^#/, "").split("&")) {
    const equals = part.indexOf("=");
    const key = equals < 0 ? part : part.slice(0, equals);
    if (!key.startsWith(PREFIX)) {
      if (part !== "") rest.push(part);
      continue;
    }
    try {
      ours[key.slice(PREFIX.length)] = decodeURIComponent(part.slice(equals + 1));
    } catch {
      // A broken escape was typed by hand: leave the key out.
    }
  }
  return { ours, rest };
}

/** Write a hash with our keys after everything that is not ours. */
export function joinHash(ours: Readonly<Record<string, string>>, rest: readonly string[]): string {
  const pairs = Object.entries(ours).map(([key, value]) => `${PREFIX}${key}=${encodeURIComponent(value)}`);
  const parts = [...rest, ...pairs];
  return parts.length === 0 ? "" : `#${parts.join("&")}`;
}

export function readAddress(): Record<string, string> {
  return splitHash(host().location.hash).ours;
}

/** The link to a view: the address of TensorBoard's page with our keys in its hash. */
export function linkTo(ours: Readonly<Record<string, string>>): string {
  const url = new URL(host().location.href);
  const { rest } = splitHash(url.hash);
  url.hash = joinHash(ours, rest.length === 0 && parentWindow() !== null ? ["batchview"] : rest);
  return url.href;
}

// Browsers refuse `replaceState` after some hundred calls in some seconds (Safari throws), and each takes milliseconds.
const BURST = 10;
const BURST_MS = 2000;
const LATER_MS = 300;
let recent: number[] = [];
let waiting: ReturnType<typeof setTimeout> | undefined;

/** Put the view into the address line: no history entry, no reload. While a key is held down, only now and then. */
export function writeAddress(ours: Readonly<Record<string, string>>): void {
  clearTimeout(waiting);
  recent = recent.filter((then) => Date.now() - then < BURST_MS);
  if (recent.length >= BURST) {
    waiting = setTimeout(() => replaceAddress(ours), LATER_MS);
    return;
  }
  recent.push(Date.now());
  replaceAddress(ours);
}

function replaceAddress(ours: Readonly<Record<string, string>>): void {
  const { location, history } = host();
  const { rest } = splitHash(location.hash);
  // Another tab's address is not ours to change.
  if (parentWindow() !== null && rest[0] !== undefined && rest[0] !== "batchview") return;
  const url = linkTo(ours);
  if (url !== location.href) history.replaceState(history.state, "", url);
}

/** Call `changed` when somebody edits or pastes an address of ours, `dropped` when TensorBoard has cut our keys off. */
export function onAddress(changed: (ours: Record<string, string>) => void, dropped: () => void): void {
  host().addEventListener("hashchange", () => {
    const ours = readAddress();
    if (Object.keys(ours).length > 0) changed(ours);
    else dropped();
  });
}

/** Call `reload` when TensorBoard's reload button was pressed or its automatic reload is due. */
export function onReload(reload: () => void): void {
  if (window.parent === window) return;
  const { port1, port2 } = new MessageChannel();
  port1.onmessage = (event: MessageEvent<string>) => {
    const message = JSON.parse(event.data) as { type: string; id: number; isReply: boolean };
    if (message.isReply) return;
    if (message.type === "experimental.DataReloaded") reload();
    // The host waits for a reply to every message.
    port1.postMessage(
      JSON.stringify({ type: message.type, id: message.id, payload: null, error: null, isReply: true }),
    );
  };
  window.parent.postMessage("experimental.bootstrap", "*", [port2]);
}

/** Follow TensorBoard's dark mode, which it shows only as a class of its body. */
export function onDarkMode(changed: (dark: boolean) => void): void {
  const { body } = host().document;
  const tell = (): void => changed(body.classList.contains("dark-mode"));
  new MutationObserver(tell).observe(body, { attributes: true, attributeFilter: ["class"] });
  tell();
}

/**
 * Tell whether our tab is seen. TensorBoard hides it by a height of 0, which fires `resize` but no intersection;
 * an intersection tells of a page that is scrolled away (a notebook); the browser tells of a tab in the background.
 */
export function onVisibility(changed: (visible: boolean) => void): void {
  let inside = true;
  const tell = (): void =>
    changed(inside && window.innerHeight > 0 && document.visibilityState === "visible");
  window.addEventListener("resize", tell);
  document.addEventListener("visibilitychange", tell);
  new IntersectionObserver((entries) => {
    inside = entries.some((entry) => entry.isIntersecting);
    tell();
  }).observe(document.documentElement);
}

/** TensorBoard's own @font-face rules, whose files are found relative to our page under any path prefix. */
export function fontRules(): string {
  const rules: string[] = [];
  for (const sheet of parentWindow()?.document.styleSheets ?? []) {
    try {
      for (const rule of sheet.cssRules) {
        if (rule.cssText.startsWith("@font-face") && rule.cssText.includes("Roboto"))
          rules.push(rule.cssText);
      }
    } catch {
      // A sheet of another origin keeps its rules to itself.
    }
  }
  const base = new URL("../../../font-roboto/", document.baseURI).href;
  return rules
    .join("\n")
    .replace(/url\("[^"]*\/([^"/]+\.woff2)"\)/g, (_, file: string) => `url("${base}${file}")`);
}
