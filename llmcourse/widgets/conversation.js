// Conversations as tokens: `llmcourse.finetuning.chat`. Marks say who speaks, and are put
// in as ids: what a user types may look like one and never becomes one.

// Turns { role, content } as ids; `encode` turns plain text into ids.
export function encodeChat(messages, special, encode) {
  const turns = messages.flatMap(({ role, content }) =>
    [special.get(`<|${role}|>`), ...encode(content), special.get("<|end|>")]);
  return [special.get("<|endoftext|>"), ...turns];
}

// The same up to where the assistant is to speak. A model that has never seen a
// conversation goes on with the question as a plain text, after a blank line.
export function encodePrompt(messages, special, encode) {
  if (special.has("<|assistant|>")) return [...encodeChat(messages, special, encode), special.get("<|assistant|>")];
  return [special.get("<|endoftext|>"), ...encode(`${messages.at(-1).content}\n\n`)];
}
