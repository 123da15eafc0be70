// Lets node's test runner import the page's TypeScript: `node --import ./test/typescript.mjs --test`.
//
// Types are only erased here; `npm run check` is what checks them.
import { register } from "node:module";

register("./typescript-hooks.mjs", import.meta.url);
