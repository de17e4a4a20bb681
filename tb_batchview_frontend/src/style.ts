// One style sheet for the page: TensorBoard's colours, light and dark, as variables; then the frame, tables and panels.

export const STYLE = /* css */ `
:root {
  color-scheme: light;
  --ground: #fff; --raised: #f5f7f9; --text: #212121; --quiet: #616161; --line: #e3e5e8; --rule: #c8ccd0;
  --accent: #e65100; --accent-text: #b84000; --accent-strong: #f57c00; --accent-soft: #fff1e0; --accent-bar: #ffdcae; --link: #1565c0;
  --good: #2e7d32; --good-soft: #e6f4e7; --bad: #c62828; --bad-soft: #fdecea; --warn-soft: #fff4d6; --warn-text: #6b4a00;
  --correct-confident: #2e7d32; --correct-unsure: #8fce93; --wrong-unsure: #ff9e80; --wrong-confident: #c62828;
  --run-a: #b84000; --run-b: #1565c0; --run-a-line: #e65100; --run-b-line: #1976d2;
  --hover: #f2f4f7; --scrim: rgb(0 0 0 / 40%); --focus: #1565c0;
  font-family: Roboto, system-ui, "Segoe UI", "Noto Sans", sans-serif;
}
:root.dark {
  color-scheme: dark;
  --ground: #303030; --raised: #383838; --text: #fff; --quiet: #c4c4c4; --line: #484848; --rule: #616161;
  --accent: #ffa040; --accent-text: #ffa040; --accent-strong: #ff9800; --accent-soft: #4d3a24; --accent-bar: #6f4a1c; --link: #64b5f6;
  --good: #81c784; --good-soft: #2c4030; --bad: #ff8a80; --bad-soft: #4a2b2b; --warn-soft: #4a3f22; --warn-text: #ffe09a;
  --correct-confident: #66bb6a; --correct-unsure: #5b8f5e; --wrong-unsure: #b5715c; --wrong-confident: #ef5350;
  --run-a: #ffa040; --run-b: #64b5f6; --run-a-line: #ffa040; --run-b-line: #64b5f6;
  --hover: #3d3d3d; --scrim: rgb(0 0 0 / 60%); --focus: #90caf9;
}
*, ::before, ::after { box-sizing: border-box; }
html, body { margin: 0; height: 100%; background: var(--ground); color: var(--text); font-size: 13px; line-height: 1.4; overflow: hidden; }
button, select, input { font: inherit; color: inherit; }
button { cursor: pointer; }
:focus-visible { outline: 2px solid var(--focus); outline-offset: 1px; }
h1, h2, h3, p { margin: 0; font-size: inherit; }
h2 { font-weight: 500; }
.quiet { color: var(--quiet); font-weight: 400; }
.small { font-size: 12px; }
.bad { color: var(--bad); font-weight: 500; }
.good { color: var(--good); font-weight: 500; }
.hidden { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap; }
.link { background: none; border: 0; padding: 0; color: var(--link); text-decoration: underline; text-underline-offset: 2px; }
code { font-family: "Roboto Mono", ui-monospace, "DejaVu Sans Mono", monospace; font-size: 12px; }

batch-view { display: grid; grid-template: 100% / 232px minmax(0, 1fr); height: 100%; }
batch-view:focus { outline: none; }

.sidebar { background: var(--raised); border-right: 1px solid var(--line); padding: 14px 16px 10px; overflow-y: auto; display: flex; flex-direction: column; gap: 16px; }
.sidebar .group { display: flex; flex-direction: column; gap: 6px; min-width: 0; }
.sidebar .label { font-size: 11px; font-weight: 500; letter-spacing: .06em; text-transform: uppercase; color: var(--quiet); }
.sidebar .end { margin-top: auto; }
select, input { width: 100%; min-width: 0; height: 32px; padding: 0 10px; background: var(--ground); border: 1px solid var(--rule); border-radius: 4px; }
select { text-overflow: ellipsis; padding-right: 4px; }
input::placeholder { color: var(--quiet); opacity: 1; }
.segments { display: flex; border: 1px solid var(--rule); border-radius: 4px; overflow: hidden; background: var(--ground); }
.segments button { flex: 1; min-width: 0; height: 28px; padding: 0 4px; border: 0; background: none; overflow: hidden; text-overflow: ellipsis; }
.segments button + button { border-left: 1px solid var(--rule); }
.segments button:focus-visible { outline-offset: -2px; }
.segments [aria-pressed="true"] { background: var(--accent-soft); color: var(--accent-text); font-weight: 500; }
.span { display: flex; align-items: center; gap: 6px; }
.outcome { display: flex; align-items: center; gap: 8px; width: 100%; padding: 0; border: 0; background: none; text-align: left; }
.outcome b { margin-left: auto; font-weight: 400; font-variant-numeric: tabular-nums; }
.dot { flex: none; width: 10px; height: 10px; border-radius: 50%; background: currentColor; }
.dot.correct_confident { background: var(--correct-confident); }
.dot.correct_unsure { background: var(--correct-unsure); }
.dot.wrong_unsure { background: var(--wrong-unsure); }
.dot.wrong_confident { background: var(--wrong-confident); }
.badge { padding: 5px 10px; border: 0; border-radius: 14px; background: var(--good-soft); color: var(--good); font-size: 12px; text-align: left; }
.badge .dot { display: inline-block; width: 8px; height: 8px; margin: 0 4px 0 2px; }
.badge span { white-space: nowrap; }
.badge.partial { background: var(--warn-soft); color: var(--warn-text); }
.badge.paused { background: var(--ground); color: var(--quiet); border: 1px solid var(--rule); padding: 4px 9px; }
progress { appearance: none; display: block; width: 100%; height: 6px; border: 0; border-radius: 3px; overflow: hidden; background: var(--line); }
progress::-webkit-progress-bar { background: var(--line); }
progress::-webkit-progress-value { background: var(--accent-strong); }
progress::-moz-progress-bar { background: var(--accent-strong); }
.matches { position: absolute; z-index: 5; left: 0; right: 0; top: 34px; max-height: 260px; overflow-y: auto; margin: 0; padding: 4px 0; list-style: none; background: var(--ground); border: 1px solid var(--rule); border-radius: 4px; box-shadow: 0 4px 12px rgb(0 0 0 / 20%); }
.matches button { display: block; width: 100%; padding: 5px 10px; border: 0; background: none; text-align: left; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.matches button:hover, .matches button:focus { background: var(--hover); outline-offset: -2px; }
.search { position: relative; }

main { display: flex; flex-direction: column; min-width: 0; height: 100%; }
.tabs { flex: none; display: flex; align-items: stretch; gap: 4px; padding: 0 20px; border-bottom: 1px solid var(--line); min-height: 42px; }
.tabs [role="tablist"] { display: flex; margin-left: -12px; }
.tabs [role="tab"] { padding: 0 12px; border: 0; border-bottom: 2px solid transparent; border-top: 2px solid transparent; background: none; color: var(--quiet); font-weight: 500; }
.tabs [role="tab"]:hover { color: var(--text); }
.tabs [aria-selected="true"] { color: var(--accent-text); border-bottom-color: var(--accent-strong); }
.tabs [role="tab"]:focus-visible { outline-offset: -3px; }
.tabs .link { color: var(--quiet); text-decoration: none; }
.tabs .link:hover { color: var(--text); text-decoration: underline; }
.tabs .end { margin-left: auto; display: flex; align-items: center; gap: 14px; white-space: nowrap; }
.sentence { flex: none; max-height: 5.2em; overflow-y: auto; overflow-wrap: anywhere; padding: 8px 20px; border-bottom: 1px solid var(--line); color: var(--quiet); }
.sentence b { color: var(--text); font-weight: 500; }
.banner { flex: none; display: flex; gap: 8px 14px; align-items: baseline; flex-wrap: wrap; padding: 7px 20px; background: var(--warn-soft); color: var(--warn-text); border-bottom: 1px solid var(--line); }
.banner.error { background: var(--bad-soft); color: var(--bad); }
.banner ul { margin: 0; padding-left: 18px; }
.content { flex: 1; min-height: 0; overflow: auto; padding: 12px 20px 20px; container: content / inline-size; }
.content > * + * { margin-top: 16px; }
.columns { display: grid; grid-template-columns: minmax(0, 1.06fr) minmax(0, 1fr); gap: 16px 24px; align-items: start; }
.columns.timeline { grid-template-columns: minmax(0, 1fr) 384px; gap: 12px 20px; }
.duo { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 440px), 1fr)); gap: 18px 20px; align-items: start; }
.columns.layers { grid-template-columns: minmax(300px, 420px) minmax(0, 1fr); }
.columns.classes { grid-template-columns: minmax(0, .97fr) minmax(0, 1.03fr); }
.columns.samples { grid-template-columns: minmax(0, 1.35fr) minmax(0, 1fr); }
.columns.layers > [aria-label="Layers"] { position: sticky; top: 0; }
@container content (max-width: 1000px) { .columns.layers > [aria-label="Layers"] { position: static; } .columns, .columns.timeline, .columns.layers, .columns.classes, .columns.samples { grid-template-columns: minmax(0, 1fr); } }
[data-choice] { scroll-margin: 12px 0 220px; }
@container content (max-width: 1000px) { .columns.classes > .stack { display: contents; } .columns.classes > .stack > * { order: 2; } .columns.classes :is([data-testid="confusion"], [data-testid="confusion-b"], [aria-label="Matrix of"]) { order: 0; } .columns.classes [data-testid="confusion-samples"] { order: 1; } }
.labels { max-width: 820px; }
.panel { min-width: 0; display: flex; flex-direction: column; gap: 8px; }
.stack { min-width: 0; display: flex; flex-direction: column; gap: 18px; }
.head { display: flex; align-items: baseline; gap: 4px 10px; flex-wrap: wrap; min-height: 20px; }
.head h2 { max-width: 100%; max-height: 2.8em; overflow: hidden; overflow-wrap: anywhere; }
.head .end { margin-left: auto; display: flex; gap: 12px; align-items: baseline; }
.readout { font-size: 12px; font-variant-numeric: tabular-nums; min-height: 17px; }
.chips { display: flex; flex-wrap: wrap; gap: 6px; }
.chip { height: 26px; max-width: 100%; padding: 0 11px; border: 1px solid var(--rule); border-radius: 13px; background: none; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.twin { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 300px), 1fr)); gap: 14px 20px; align-items: start; }
.legend { display: flex; flex-wrap: wrap; gap: 2px 12px; font-size: 12px; }
.legend button { display: inline-flex; align-items: center; gap: 5px; max-width: 220px; padding: 2px 0; border: 0; background: none; color: var(--quiet); }
.legend button:hover, .legend [aria-pressed="true"] { color: var(--text); }
.legend [aria-pressed="true"] { font-weight: 500; text-decoration: underline; text-underline-offset: 3px; }
.legend i { flex: none; width: 14px; height: 3px; background: var(--hue); forced-color-adjust: none; }
.legend span { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.steps { width: 68px; height: 26px; }
.unitlist { max-height: 120px; overflow-y: auto; overflow-wrap: anywhere; font-variant-numeric: tabular-nums; }
.cut { display: inline-block; max-width: 300px; overflow: hidden; text-overflow: ellipsis; vertical-align: bottom; }
.sidebar .cut { max-width: 148px; }
.chip:hover, .segments button:hover { background: var(--hover); }
.chip[aria-pressed="true"] { background: var(--accent-soft); border-color: var(--accent-strong); color: var(--accent-text); }
.chips .label { align-self: center; color: var(--quiet); font-size: 12px; }
.chips.ranges { align-items: center; gap: 6px 10px; }
.chips.ranges > span:not(.label) { display: inline-flex; align-items: center; gap: 5px; white-space: nowrap; color: var(--quiet); font-size: 12px; }
.narrow { width: 62px; height: 26px; padding: 0 7px; }
.ids { width: 168px; height: 26px; border-radius: 13px; }
.chips.ranges select { max-width: 150px; }
.ramp { display: inline-block; width: 60px; height: 8px; border-radius: 2px; background: linear-gradient(90deg, var(--wrong-confident), var(--wrong-unsure), var(--correct-unsure), var(--correct-confident)); }
.strip { display: flex; gap: 2px; margin: 0; padding: 0 0 2px; list-style: none; overflow-x: auto; }
.strip li { flex: 1 0 6px; max-width: 30px; min-width: 0; }
.strip.words li { flex-basis: 24px; max-width: 88px; }
.time { display: flex; flex-direction: column; justify-content: flex-end; width: 100%; height: 44px; padding: 0; border: 0; border-bottom: 2px solid transparent; background: var(--hover); overflow: hidden; }
.words .time { height: 62px; }
.time:focus-visible { outline-offset: -2px; }
.time[aria-current] { border-bottom-color: var(--text); }
.time i { flex: none; display: block; width: 100%; height: calc(var(--share) * 40px); min-height: 2px; background: var(--quiet); }
.time i.correct_confident { background: var(--correct-confident); }
.time i.correct_unsure { background: var(--correct-unsure); }
.time i.wrong_unsure { background: var(--wrong-unsure); }
.time i.wrong_confident { background: var(--wrong-confident); }
.time span { flex: none; width: 100%; height: 18px; padding: 0 2px; background: var(--ground); font-size: 11px; line-height: 18px; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.chip:disabled { opacity: .5; cursor: default; }
.chips select { width: auto; height: 26px; border-radius: 13px; font-size: 13px; background: none; }
.chips option { background: var(--ground); }
.head.line { flex-wrap: nowrap; min-height: 26px; align-items: center; }
.head.line > * { flex: none; }
.head.line .readout { flex: 1; min-width: 0; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.head.line .bad { flex: 1; min-width: 0; }
.head.line .end { align-items: center; }
[data-testid="timeline"] { gap: 2px; }
@container content (max-width: 560px) { .grid .before { display: none; } .head.line { flex-wrap: wrap; } .head.line .readout { order: 1; flex: 1 0 100%; } }
.stale { opacity: .55; }
.state { padding: 26px 10px; color: var(--quiet); text-align: center; }
.state.error { color: var(--bad); }

bv-table { display: block; min-width: 0; }
#batches { --height: max(330px, calc(100vh - 458px)); }
#spikes { --height: 255px; }
#spikes-b, .spiked > :not(:only-child) #spikes { --height: 175px; }
#batch-samples { --height: 340px; }
#samples { --height: max(360px, calc(100vh - 292px)); }
.stack #samples { --height: 420px; }
#classes { --height: clamp(330px, calc(100vh - 190px), 560px); }
#worst { --height: 340px; }
h3 { font-weight: 500; }
.fold { border: 0; padding: 0; background: none; font-weight: 500; text-align: left; }
.fold::before { content: "▸"; display: inline-block; width: 1.2em; color: var(--quiet); }
.fold[aria-expanded="true"]::before { content: "▾"; }
.spark { display: block; width: 100%; height: 20px; }
.spark path { fill: none; stroke: var(--accent); stroke-width: 1.5; stroke-linecap: round; }
.slide { display: grid; grid-template-columns: max-content minmax(80px, 1fr); gap: 12px; align-items: center; }
.slide input { padding: 0; accent-color: var(--accent-strong); }
.slide b { display: inline-block; min-width: 3em; font-weight: 500; font-variant-numeric: tabular-nums; }
.beside { display: flex; flex-wrap: wrap; gap: 10px 24px; align-items: center; }
.three { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(300px, 100%), 1fr)); gap: 16px 24px; align-items: start; }
.across { grid-column: 1 / -1; }
.noted p { flex-basis: 100%; }
.noted h2 { overflow: visible; }
.four { border-collapse: collapse; font-variant-numeric: tabular-nums; }
.four th { font-weight: 400; text-align: left; color: var(--quiet); padding: 2px 10px 2px 0; max-width: 180px; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.four tbody td { padding: 3px 12px; text-align: right; border: 1px solid var(--line); }
.four .right { background: var(--good-soft); }
.four .wrong { background: var(--bad-soft); }
#pairs { --height: 311px; }
#joined { --height: 340px; }
.named { display: flex; gap: 5px; }
.named > :first-child { min-width: 0; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.movable { touch-action: none; cursor: grab; }
.movable:active { cursor: grabbing; }
.chosen #classes { --height: 320px; }
.scroll { overflow: auto; border-bottom: 1px solid var(--line); contain: content; max-height: var(--height, 440px); overscroll-behavior-y: auto; }
.grid:focus-visible { outline: none; }
.scroll:has(> .grid:focus-visible) { outline: 2px solid var(--focus); outline-offset: -2px; }
.grid { width: 100%; border-collapse: separate; border-spacing: 0; table-layout: fixed; font-variant-numeric: tabular-nums; }
.grid th { position: sticky; top: 0; z-index: 2; height: 30px; padding: 0 6px; background: var(--ground); border-bottom: 1px solid var(--rule); font-weight: 500; color: var(--quiet); text-align: left; white-space: nowrap; overflow: hidden; text-overflow: ellipsis; }
.grid th button { border: 0; padding: 0; background: none; font-weight: 500; color: inherit; max-width: 100%; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; vertical-align: middle; }
.grid th span { display: inline-block; max-width: 100%; overflow: hidden; text-overflow: ellipsis; vertical-align: middle; }
.grid th button:hover, .grid [aria-sort] { color: var(--text); }
.grid td { height: 28px; padding: 0 6px; border-bottom: 1px solid var(--line); white-space: nowrap; overflow: hidden; text-overflow: ellipsis; }
.grid.tall td { height: 46px; }
/* Cut off at the left: the dots stand where a line of that direction ends. */
.tail { display: block; direction: rtl; text-align: left; overflow: hidden; text-overflow: ellipsis; white-space: pre; }
bv-input { display: block; overflow-wrap: anywhere; }
.grid bv-input { overflow: hidden; text-overflow: ellipsis; }
bv-input img { display: block; height: 168px; aspect-ratio: 1; object-fit: contain; object-position: 0; }
.grid bv-input img { height: 40px; }
.pixels { image-rendering: pixelated; }
.card bv-input { max-height: 200px; overflow-y: auto; white-space: pre-wrap; }
.grid .first { width: 22%; }
.grid .number { text-align: right; }
.grid .number + :not(.number) { padding-left: 16px; }
.grid tbody tr:not(.spacer):hover td { background: var(--hover); }
.grid.pick tbody tr:not(.spacer) { cursor: pointer; }
.grid tbody tr[aria-selected="true"] td { background: var(--accent-soft); }
.grid .spacer td { height: auto; padding: 0; border: 0; }
.cellbar { position: relative; display: inline-block; min-width: 100%; }
.cellbar::before { content: ""; position: absolute; z-index: 0; right: -2px; top: 50%; height: 20px; margin-top: -10px; width: calc(var(--share) * 100%); background: var(--accent-bar); border-radius: 2px; }
.cellbar > span { position: relative; z-index: 1; }
.bar { display: flex; align-items: center; gap: 7px; }
.bar i { flex: none; height: 8px; width: calc(var(--share) * (100% - 46px)); min-width: 1px; border-radius: 2px; background: var(--quiet); }
.bar i.correct_confident { background: var(--correct-confident); }
.bar i.correct_unsure { background: var(--correct-unsure); }
.bar i.wrong_unsure { background: var(--wrong-unsure); }
.bar i.wrong_confident { background: var(--wrong-confident); }

bv-lines, bv-matrix, bv-heatmap, bv-ridgeline, bv-time-heatmap, bv-scatter, bv-trend, bv-plane { display: block; position: relative; min-width: 0; }
canvas { display: block; }
.picture { position: relative; }
.picture > canvas { width: 100%; }
.picture > .save { position: absolute; right: 12px; top: 2px; height: 24px; padding: 0 8px; background: var(--ground); font-size: 12px; }
@media (hover: hover) { .picture:not(:hover) > .save:not(:focus-visible) { opacity: 0; } }
.tip { position: absolute; z-index: 4; pointer-events: none; max-width: 320px; padding: 4px 8px; border-radius: 4px; background: var(--text); color: var(--ground); font-size: 12px; overflow: hidden; text-overflow: ellipsis; white-space: pre-line; }

.mix { display: grid; grid-template-columns: 62px minmax(0, 1fr); gap: 3px 8px; align-items: center; }
.mixbar { display: flex; height: 16px; border-radius: 2px; overflow: hidden; gap: 1px; }
.mixbar button { display: flex; flex-wrap: wrap; justify-content: center; flex: var(--share) 0 0; min-width: 1px; height: 16px; padding: 0; border: 0; overflow: hidden; font-size: 11px; line-height: 16px; text-align: center; color: #fff; background: var(--hue); }
.mixbar button::before { content: ""; height: 16px; }
.mixbar button > span { white-space: nowrap; }
.mixbar button[aria-pressed="true"] { box-shadow: inset 0 0 0 2px var(--text); }
.mixbar button:focus-visible { outline-offset: -2px; outline-color: #fff; }
.scores { display: grid; grid-template-columns: fit-content(45%) minmax(60px, 1fr) max-content; gap: 3px 10px; align-items: center; max-height: 360px; overflow-y: auto; }
.scores .name { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.scores .track { height: 10px; background: var(--hover); border-radius: 2px; }
.scores .track i { display: block; height: 10px; width: calc(var(--share) * 100%); border-radius: 2px; background: var(--quiet); }
.scores .track i.target { background: var(--correct-confident); }
.scores .track i.predicted { background: var(--wrong-confident); }
.scores .value { text-align: right; font-variant-numeric: tabular-nums; }
.card { border: 1px solid var(--line); border-radius: 4px; padding: 10px 12px; display: flex; flex-direction: column; gap: 8px; min-width: 0; }
.facts { display: flex; flex-wrap: wrap; gap: 4px 18px; margin: 0; }
.facts div { display: flex; gap: 6px; }
.facts dt { color: var(--quiet); }
.facts dd { margin: 0; font-variant-numeric: tabular-nums; overflow-wrap: anywhere; }

.side { display: inline-block; min-width: 17px; padding: 0 4px; border: 1px solid currentColor; border-radius: 3px; font-size: 11px; font-weight: 700; line-height: 15px; text-align: center; color: var(--run-a); }
.side.b { color: var(--run-b); border-style: dashed; }
.pair { display: flex; flex-wrap: wrap; gap: 6px; align-items: baseline; min-width: 0; overflow-wrap: anywhere; }
.change { position: relative; white-space: nowrap; font-variant-numeric: tabular-nums; }
.compared { border-collapse: collapse; font-variant-numeric: tabular-nums; }
.compared th, .compared td { padding: 3px 0 3px 18px; border-bottom: 1px solid var(--line); text-align: right; font-weight: 400; white-space: nowrap; }
.compared thead th { color: var(--quiet); }
.compared tr > :first-child { padding-left: 0; text-align: left; }
.outcomes { display: grid; grid-template-columns: max-content minmax(0, 1fr) minmax(0, 1fr); gap: 4px; max-width: 560px; align-items: center; }
.outcomes .chip { height: auto; padding: 6px 10px; border-radius: 6px; white-space: normal; }
.notes { margin: 0; padding-left: 16px; }

.empty { max-width: 720px; margin: 40px auto; padding: 0 20px; display: flex; flex-direction: column; gap: 14px; font-size: 14px; }
.empty h1 { font-size: 20px; font-weight: 500; }
.empty pre { margin: 0; padding: 12px 14px; overflow-x: auto; background: var(--raised); border: 1px solid var(--line); border-radius: 4px; }
.empty mark { background: var(--accent-soft); color: inherit; }
.wide { grid-column: 1 / -1; overflow: auto; }

dialog { border: 1px solid var(--rule); border-radius: 6px; padding: 18px 22px; background: var(--ground); color: var(--text); max-width: 460px; }
dialog.broad { max-width: min(860px, 94vw); }
.findings { max-height: 60vh; overflow-y: auto; grid-template-columns: minmax(80px, max-content) minmax(0, 1fr); }
.findings > * { overflow-wrap: anywhere; white-space: normal; }
.findings dt { color: var(--quiet); max-width: 200px; }
.findings p { margin-top: 3px; color: var(--bad); }
.sheet { width: min(800px, 84vw); columns: 2 320px; column-gap: 28px; max-height: 72vh; overflow-y: auto; }
.sheet section { break-inside: avoid; }
.sheet h3 { margin-bottom: 8px; }
dialog::backdrop { background: var(--scrim); }
dialog h2 { margin-bottom: 12px; font-size: 15px; }
dialog dl { display: grid; grid-template-columns: max-content 1fr; gap: 7px 18px; margin: 0 0 16px; }
dialog dt { white-space: nowrap; }
dialog dd { margin: 0; }
kbd { display: inline-block; min-width: 22px; padding: 1px 6px; border: 1px solid var(--rule); border-radius: 3px; font: inherit; font-size: 12px; text-align: center; }
.button { height: 30px; padding: 0 14px; border: 1px solid var(--rule); border-radius: 4px; background: none; }
.button:hover { background: var(--hover); }

.u-over > .marker { position: absolute; z-index: 1; left: 0; top: 0; width: 1px; height: 100%; background: var(--text); opacity: .6; pointer-events: none; }
.u-select { background: var(--accent-strong); opacity: .18; }
.u-over { cursor: crosshair; }
.u-cursor-x { border-right: 1px dashed var(--quiet) !important; }
@media (max-width: 860px) { batch-view { grid-template-columns: 204px minmax(0, 1fr); } .sidebar { padding: 12px; } .content, .sentence, .banner { padding-left: 14px; padding-right: 14px; } .tabs { padding: 0 14px; } }
@media (max-width: 620px) { html, body { overflow: auto; height: auto; } batch-view { display: block; height: auto; } .sidebar { border-right: 0; border-bottom: 1px solid var(--line); display: grid; grid-template-columns: minmax(0, 1fr) minmax(0, 1fr); gap: 10px 14px; } .sidebar > .end, .sidebar > [data-testid="outcomes"] { grid-column: 1 / -1; } .sidebar > [data-testid="outcomes"] { display: grid; grid-template-columns: minmax(0, 1fr) minmax(0, 1fr); gap: 4px 14px; } [data-testid="outcomes"] > .label { grid-column: 1 / -1; } main { height: auto; } .tabs { flex-wrap: wrap; } .content { overflow: visible; } }
@media (prefers-reduced-motion: no-preference) { .stale { transition: opacity .15s .15s; } }
@media (forced-colors: active) { .dot, .bar i, .mixbar button, .track i, progress { forced-color-adjust: none; } }
`;
