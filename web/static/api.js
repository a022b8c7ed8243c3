// Calls of the server. What it refuses becomes an Error with its message.

async function answered(response) {
  const text = await response.text();
  let content;
  try {
    content = JSON.parse(text);
  } catch {
    throw new Error(`the server answers ${response.status}: ${text.slice(0, 200)}`);
  }
  if (!response.ok) throw new Error(content.error || `the server answers ${response.status}`);
  return content;
}

async function sent(path, options) {
  let response;
  try {
    response = await fetch(path, { credentials: "same-origin", ...options });
  } catch {
    throw new Error("the server does not answer: is app.py still running?");
  }
  return answered(response);
}

export const get = (path) => sent(path);

export const post = (path, fields = {}) =>
  sent(path, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(fields),
  });

export const put = (path, file) =>
  sent(`${path}?name=${encodeURIComponent(file.name)}`, { method: "PUT", body: file });

export async function sound(path, context) {
  const response = await fetch(path, { credentials: "same-origin" });
  if (!response.ok) throw new Error(`${path}: ${response.status}`);
  return context.decodeAudioData(await response.arrayBuffer());
}
