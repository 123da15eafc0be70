// Builds the editor page, and the demo's, into `dist/`, which the `quire` binary embeds.
//
// Asset addresses are relative, so that the page also works below a path of a reverse proxy.
import { defineConfig } from "vite";

export default defineConfig({
  base: "./",
  build: {
    target: "es2022",
    // A data: address would be one more source to allow in the page's content security policy.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    reportCompressedSize: true,
    rollupOptions: { input: ["index.html", "demo.html"] },
  },
  server: {
    // `npm run dev` serves the sources and takes the document from a running `quire serve`.
    proxy: { "/ws": { target: "ws://127.0.0.1:8080", ws: true } },
  },
});
