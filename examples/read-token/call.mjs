// Calls Asset's API with the token in a mounted Secret: reads the file for each request, and once more after a 401.
// begin: read
import { readFile } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";

const dir = process.env.ASSET_TOKEN_DIR ?? "/var/run/secrets/asset";

async function call(path) {
  const base = await readFile(`${dir}/base_url`, "utf8");
  for (const waits of [0, 5, 30, 60]) { // a renewed token may reach a mounted file over a minute late
    await sleep(waits * 1000);
    const authorization = await readFile(`${dir}/authorization`, "utf8");
    const response = await fetch(base + path, { headers: { authorization }, signal: AbortSignal.timeout(30_000) });
    if (response.ok) return response.text();
    if (response.status !== 401) throw new Error(`Asset answered ${response.status}`);
  }
  throw new Error("Asset refuses the token: look at the AssetToken's conditions");
}
// end: read

console.log(await call("/v0/ping"));
