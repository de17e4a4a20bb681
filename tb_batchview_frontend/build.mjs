// Bundles src/main.ts into one file. Called by setup.py and by `npm run build [-- output directory]`.
import { build } from "esbuild";

const outdir = process.argv[2] ?? "../tb_batchview/static";
await build({
  entryPoints: { index: "src/main.ts" },
  outdir,
  bundle: true,
  format: "esm",
  target: ["es2022"],
  minify: true,
  legalComments: "eof",
  charset: "utf8", // modules always are
  loader: { ".css": "text" },
  conditions: ["production"], // Lit's development build warns on the console
  define: { "process.env.NODE_ENV": '"production"' },
  logLevel: "warning",
});
