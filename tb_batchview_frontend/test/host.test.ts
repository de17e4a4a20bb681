import { afterEach, expect, test, vi } from "vitest";
import {
  fontRules,
  linkTo,
  onDarkMode,
  onReload,
  onVisibility,
  readAddress,
  writeAddress,
} from "../src/host.js";
import { settle } from "./fakes.js";

afterEach(() => {
  vi.unstubAllGlobals();
  Object.defineProperty(window, "parent", { value: window, configurable: true });
});

/** A TensorBoard around the page: its address, what it was told, and its body. */
function embed(href: string): { replaced: string[]; posted: unknown[][]; body: HTMLElement } {
  const replaced: string[] = [];
  const posted: unknown[][] = [];
  const inside = document.implementation.createHTMLDocument();
  const parent = {
    document: inside,
    location: new URL(href),
    history: {
      state: { kept: 1 },
      replaceState: (_state: unknown, _title: string, url: string) => replaced.push(url),
    },
    postMessage: (...words: unknown[]) => posted.push(words),
    addEventListener: () => undefined,
  };
  Object.defineProperty(window, "parent", { value: parent, configurable: true });
  return { replaced, posted, body: inside.body };
}

test("the view is read from and written into TensorBoard's address, without a history entry", () => {
  const { replaced } = embed("http://localhost:6006/?darkMode=true#batchview&p.batchview.run=a%2Fb");
  expect(readAddress()).toEqual({ run: "a/b" });
  writeAddress({ run: "a/b" });
  expect(replaced).toEqual([]);
  writeAddress({ run: "c d", tab: "classes" });
  expect(replaced).toEqual([
    "http://localhost:6006/?darkMode=true#batchview&p.batchview.run=c%20d&p.batchview.tab=classes",
  ]);
});

test("the address of another tab is left alone", () => {
  const { replaced } = embed("http://localhost:6006/#scalars");
  writeAddress({ run: "a" });
  expect(replaced).toEqual([]);
});

test("a link names our tab also where TensorBoard's address does not", () => {
  embed("http://localhost:6006/prefix/");
  expect(linkTo({ run: "a" })).toBe("http://localhost:6006/prefix/#batchview&p.batchview.run=a");
});

test("a page inside a foreign one works on its own address", () => {
  const foreign = {
    get document(): Document {
      throw new DOMException("Blocked a frame from accessing a cross-origin frame.", "SecurityError");
    },
  };
  Object.defineProperty(window, "parent", { value: foreign, configurable: true });
  expect([readAddress(), fontRules()]).toEqual([{}, ""]);
});

test("TensorBoard's reload is heard and every message of it is answered", async () => {
  const { posted } = embed("http://localhost:6006/#batchview");
  let reloads = 0;
  onReload(() => {
    reloads += 1;
  });
  const [words, origin, ports] = posted[0] as [string, string, MessagePort[]];
  expect([words, origin, posted.length]).toEqual(["experimental.bootstrap", "*", 1]);
  const port = ports[0] as MessagePort;
  const answers: unknown[] = [];
  const both = new Promise<void>((resolve) => {
    port.onmessage = (event: MessageEvent<string>) => {
      answers.push(JSON.parse(event.data));
      if (answers.length === 2) resolve();
    };
  });
  port.postMessage(
    JSON.stringify({ type: "experimental.RunsChanged", id: 4, payload: [], error: null, isReply: false }),
  );
  port.postMessage(
    JSON.stringify({ type: "experimental.DataReloaded", id: 5, payload: null, error: null, isReply: false }),
  );
  await both;
  expect(reloads).toBe(1);
  expect(answers).toEqual([
    { type: "experimental.RunsChanged", id: 4, payload: null, error: null, isReply: true },
    { type: "experimental.DataReloaded", id: 5, payload: null, error: null, isReply: true },
  ]);
  port.close();
});

test("dark mode is that of TensorBoard's body, now and when it changes", async () => {
  const { body } = embed("http://localhost:6006/#batchview");
  body.className = "dark-mode";
  const heard: boolean[] = [];
  onDarkMode((dark) => heard.push(dark));
  body.className = "";
  await settle();
  expect(heard).toEqual([true, false]);
});

test("a frame of no height is not seen", () => {
  vi.stubGlobal(
    "IntersectionObserver",
    class {
      observe(): void {}
    },
  );
  const heard: boolean[] = [];
  onVisibility((visible) => heard.push(visible));
  for (const height of [0, 836]) {
    vi.stubGlobal("innerHeight", height);
    window.dispatchEvent(new Event("resize"));
  }
  expect(heard).toEqual([false, true]);
});

test("while a key is held down the address is written now and then, and the last view of all in the end", () => {
  vi.useFakeTimers({ now: Date.now() + 60_000 });
  try {
    const { replaced } = embed("http://localhost:6006/#batchview");
    for (let batch = 0; batch < 100; batch += 1) {
      writeAddress({ batch: String(batch) });
      vi.advanceTimersByTime(33);
    }
    expect(replaced.length).toBeLessThan(40);
    vi.advanceTimersByTime(1000);
    expect(replaced.at(-1)).toContain("p.batchview.batch=99");
  } finally {
    vi.useRealTimers();
  }
});
