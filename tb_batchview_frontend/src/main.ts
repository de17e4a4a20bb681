// The module TensorBoard imports: `render()` puts the page into the plugin's frame and connects it with the host.

import uplotStyle from "uplot/dist/uPlot.min.css";
import * as host from "./host.js";
import { fromAddress, toAddress } from "./selection.js";
import { Store } from "./state.js";
import { STYLE } from "./style.js";
import { AppElement } from "./views/app.js";

/** A page looks with each tick while event files are still being read, and else for new batches after some. */
const TICK_MS = 1000;
const POLL_TICKS = 3;

function adoptStyles(): void {
  document.adoptedStyleSheets = [host.fontRules(), uplotStyle, STYLE].map((text) => {
    const sheet = new CSSStyleSheet();
    sheet.replaceSync(text);
    return sheet;
  });
}

export function render(): void {
  adoptStyles();
  document.documentElement.lang = "en";
  document.title = "Batch View";
  const app = new AppElement();
  const store = new Store(fromAddress(host.readAddress()), () => app.requestUpdate(), host.writeAddress);
  app.store = store;
  host.onDarkMode((dark) => {
    document.documentElement.classList.toggle("dark", dark);
    store.set({ dark });
  });
  host.onVisibility((visible) => store.setVisible(visible));
  host.onReload(() => store.refresh());
  host.onAddress(
    (pairs) => store.select(fromAddress(pairs)),
    () => host.writeAddress(toAddress(store.selection)),
  );
  document.body.append(app);
  store.want();
  let ticks = 0;
  setInterval(() => {
    ticks += 1;
    if (store.impatient || ticks % POLL_TICKS === 0) void store.poll();
  }, TICK_MS);
}
