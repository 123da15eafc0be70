// Hocuspocus with its SQLite extension, everything else as it comes: HOST, PORT and the database's FILE.
import { SQLite } from "@hocuspocus/extension-sqlite";
import { Server } from "@hocuspocus/server";

const { HOST = "127.0.0.1", PORT, FILE } = process.env;
if (!PORT || !FILE) {
  console.error("PORT and FILE must be set");
  process.exit(2);
}
await new Server({
  address: HOST,
  port: Number(PORT),
  quiet: true,
  extensions: [new SQLite({ database: FILE })],
}).listen();
console.log(`listening on http://${HOST}:${PORT}`);
