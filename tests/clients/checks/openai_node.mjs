// The `openai` package of npm: a stream against the whole answer, an aborted stream, a retry, a refusal.
//
//     node openai_node.mjs BASE KEY

import assert from "node:assert/strict";
import { createRequire } from "node:module";

const [base, apiKey, modules] = process.argv.slice(2);
const OpenAI = createRequire(modules)("openai");
const client = new OpenAI({ baseURL: `${base}/v1`, apiKey, maxRetries: 0 });
const fixed = { model: "default", max_tokens: 24, temperature: 0, seed: 1 };
const messages = [{ role: "user", content: "Once upon a time" }];
const long = { ...fixed, prompt: "Once", max_tokens: 200, stream: true, ignore_eos: true };

const whole = await client.chat.completions.create({ ...fixed, messages });
let text = "";
let usage;
const stream = await client.chat.completions.create({
  ...fixed, messages, stream: true, stream_options: { include_usage: true },
});
for await (const chunk of stream) {
  text += chunk.choices[0]?.delta.content ?? "";
  usage = chunk.usage ?? usage;
}
assert.equal(text, whole.choices[0].message.content);
assert.deepEqual(usage, whole.usage);

const running = [];
for (let i = 0; i < 2; i++) running.push(await client.completions.create(long));
await assert.rejects(client.completions.create({ ...fixed, prompt: "x" }), OpenAI.RateLimitError);
for (const stream of running) stream.controller.abort();
await client.completions.create({ ...fixed, prompt: "x" }, { maxRetries: 5 });

await assert.rejects(
  client.completions.create({ ...fixed, prompt: "x", n: 99 }),
  (error) => error instanceof OpenAI.BadRequestError && error.param === "n",
);
