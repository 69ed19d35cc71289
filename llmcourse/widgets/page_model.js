// The page's side of a model: fetched when it is first asked something, and run in a
// worker. `MODELS` is what the site says of each: { file, script, bytes, vocabulary }.

const HERE = document.currentScript.src;

// The bytes of the weights file. They are told to `onProgress` as a share of all.
async function fetchWeights({ file, script, bytes: size }, onProgress, again) {
  // A page that was opened as a file may not fetch, but may run a script beside it.
  if (new URL(HERE).protocol === "file:") return weightsOfScript(script);
  const response = await fetch(new URL(file, HERE), { cache: again ? "reload" : "force-cache" });
  if (!response.ok) throw new Error(`its file of weights is not there (status ${response.status})`);
  const bytes = new Uint8Array(size);
  const reader = response.body.getReader();
  let n = 0;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    if (n + value.length > bytes.length) throw new Error("its file of weights is not the one that belongs to this page");
    bytes.set(value, n);
    n += value.length;
    onProgress(n / bytes.length);
  }
  if (n < bytes.length) throw new Error(`its file of weights ends after ${thousands(n)} of ${thousands(bytes.length)} bytes`);
  return bytes.buffer;
}

function weightsOfScript(script) {
  return new Promise((resolve, reject) => {
    const element = make("script", { src: new URL(script, HERE).href });
    element.onerror = () => reject(new Error("its file of weights is not beside this page"));
    element.onload = () => {
      element.remove();
      try {
        resolve(Uint8Array.from(atob(window.llmcourseWeights[script]), (c) => c.charCodeAt(0)).buffer);
        delete window.llmcourseWeights[script];
      } catch {
        reject(new Error("its file of weights is damaged"));
      }
    };
    document.head.append(element);
  });
}

class PageModel {
  about = null; // what `load` answers, once the model is there
  inPage = false; // whether it runs without a worker
  tries = 0;
  waiting = new Map(); // number of a question -> { resolve, reject }
  asked = 0;

  constructor(name) {
    this.name = name;
    this.place = MODELS[name];
    this.size = `${(this.place.bytes / 1e6).toFixed(1)} MB`;
  }

  // Fetch the model if it is not there yet. After a failure the next call tries again.
  load(onProgress) {
    this.loading ??= this.start(onProgress).catch((error) => {
      this.loading = null;
      throw error;
    });
    return this.loading;
  }

  async start(onProgress) {
    const weights = await fetchWeights(this.place, onProgress, this.tries++ > 0);
    this.post = this.startWorker() ?? this.startHere();
    this.about = await this.ask("load", weights);
    return this.about;
  }

  // A worker from the program's text: one from an address needs a server.
  startWorker() {
    try {
      const program = `const answer = (${languageModel})()(postMessage);\nonmessage = ({ data }) => answer(data);`;
      const worker = new Worker(URL.createObjectURL(new Blob([program], { type: "text/javascript" })));
      worker.onmessage = ({ data }) => this.receive(data);
      worker.onerror = () => this.fail("it stopped for want of memory or by a fault of the browser");
      return (question) => worker.postMessage(question);
    } catch {
      return null;
    }
  }

  startHere() {
    this.inPage = true;
    return languageModel()((answer) => this.receive(answer), () => new Promise((go) => setTimeout(go)));
  }

  ask(task, argument) {
    const number = ++this.asked;
    return new Promise((resolve, reject) => {
      this.waiting.set(number, { resolve, reject });
      this.post({ number, task, argument });
    });
  }

  receive({ number, result, error }) {
    const { resolve, reject } = this.waiting.get(number);
    this.waiting.delete(number);
    if (error === undefined) resolve(result);
    else reject(new Error(error));
  }

  // The worker is gone: so is all that was asked of it.
  fail(reason) {
    for (const { reject } of this.waiting.values()) reject(new Error(reason));
    this.waiting.clear();
    this.loading = null;
    this.about = null;
  }
}

// One of each for all explorers of a page.
const pageModels = new Map(Object.keys(MODELS).map((name) => [name, new PageModel(name)]));
