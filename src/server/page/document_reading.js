'use strict';

// How a document gets to the server: upload, progress, the end, and what to do when the server has
// lost it. The state is `conversation.document`, whose `status` is one of uploading, waiting,
// reading, ready, failed, gone.

const kPollMilliseconds = 350;

function isBeingRead(document) {
  return Boolean(document) && ['uploading', 'waiting', 'reading'].includes(document.status);
}

// Takes over what the server says about a document.
function mergeDocument(document, answer) {
  for (const field of ['id', 'status', 'progress', 'tokens', 'kv_bytes', 'full_kv_bytes', 'kept']) {
    if (answer[field] !== undefined && answer[field] !== null) document[field] = answer[field];
  }
  if (answer.restkv?.method) document.method = answer.restkv.method;
  if (answer.restkv?.budget) document.budget = answer.restkv.budget;
  document.error = answer.status === 'failed' ?
      answer.error?.message ?? 'The document could not be read.' :
      null;
}

class DocumentReader {
  // `onupdate(conversation)` is called at every change.
  constructor({api, files, conversations, onupdate}) {
    this.api = api;
    this.files = files;
    this.conversations = conversations;
    this.onupdate = onupdate;
    this.running = new Map();  // by conversation
    this.pace = new Map();     // progress and time of the first sign of reading
  }

  start(conversation) {
    this.running.get(conversation.id)?.abort();
    const controller = new AbortController();
    this.running.set(conversation.id, controller);
    this.pace.delete(conversation.id);
    return controller;
  }

  changed(conversation) {
    this.conversations.save(conversation);
    this.onupdate(conversation);
  }

  async read(conversation, file, name, choice) {
    const controller = this.start(conversation);
    const replaced = conversation.document?.id ?? null;
    const document = {
      id: null,
      name,
      size: file.size,
      estimate: estimatedTokens({name, size: file.size, type: file.type}),
      status: 'uploading',
      progress: 0,
      tokens: 0,
      method: choice.method,
      budget: choice.budget,
      error: null
    };
    conversation.document = document;
    conversation.updated = Date.now();
    this.changed(conversation);
    this.files.put(conversation.id, file, name);
    await this.guard(conversation, document, controller, async () => {
      const answer = await this.patiently(
          conversation, controller.signal,
          () => this.api.uploadDocument(file, name, wishOf(choice), controller.signal));
      mergeDocument(document, answer);
      this.changed(conversation);
      if (replaced && replaced !== document.id) this.release(replaced, conversation);
      await this.follow(conversation, document, controller);
    });
  }

  // Asks what became of the document of a conversation that is opened again.
  async check(conversation) {
    const document = conversation.document;
    if (!document || this.running.has(conversation.id) || document.status === 'failed') return;
    if (!document.id) {
      document.status = 'failed';
      document.error = 'The upload was interrupted.';
      document.stored = Boolean(await this.files.get(conversation.id));
      this.changed(conversation);
      return;
    }
    const controller = this.start(conversation);
    await this.guard(
        conversation, document, controller, () => this.follow(conversation, document, controller));
  }

  async guard(conversation, document, controller, work) {
    try {
      await work();
    } catch (error) {
      const problem = asApiError(error);
      if (problem.kind === 'stopped') return;
      if (problem.status === 404)
        document.status = 'gone';
      else if (document.status !== 'ready') {
        document.status = 'failed';
        document.error = problem.message;
      }
    } finally {
      if (this.running.get(conversation.id) === controller) this.running.delete(conversation.id);
    }
    if (document.status !== 'ready') {
      document.stored = Boolean(await this.files.get(conversation.id));
    }
    if (conversation.document === document) this.changed(conversation);
  }

  // The server has lost a document; with its file it can be read again.
  async markGone(conversation, document) {
    document.status = 'gone';
    document.stored = Boolean(await this.files.get(conversation.id));
  }

  async follow(conversation, document, controller) {
    for (;;) {
      try {
        mergeDocument(document, await this.api.document(document.id, controller.signal));
      } catch (error) {
        const problem = asApiError(error);
        if (problem.kind !== 'gone' && problem.kind !== 'busy') throw problem;
        await sleep(2000, controller.signal);
        continue;
      }
      if (!isBeingRead(document)) return;
      if (document.status === 'reading' && !this.pace.has(conversation.id)) {
        this.pace.set(conversation.id, {time: performance.now(), progress: document.progress ?? 0});
      }
      this.changed(conversation);
      await sleep(kPollMilliseconds, controller.signal);
    }
  }

  // A full queue is asked again for some minutes.
  async patiently(conversation, signal, work) {
    const {document} = conversation;
    for (let tries = 0;; ++tries) {
      try {
        return await work();
      } catch (error) {
        const problem = asApiError(error);
        if (problem.kind !== 'busy' || tries >= 20) throw problem;
        document.queued = problem.message;
        this.onupdate(conversation);
        await sleep(1000 * problem.retryAfter, signal);
        document.queued = null;
      }
    }
  }

  // Seconds until the document has been read, or null while nobody can tell.
  secondsLeft(conversation) {
    const pace = this.pace.get(conversation.id);
    const progress = conversation.document?.progress ?? 0;
    if (!pace || progress - pace.progress < 0.02) return null;
    const seconds = (performance.now() - pace.time) / 1000;
    return seconds < 0.7 ? null : seconds * (1 - progress) / (progress - pace.progress);
  }

  // Waits until the document is usable; an ApiError if it never will be.
  async ready(conversation, signal) {
    while (isBeingRead(conversation.document)) await sleep(150, signal);
    const document = conversation.document;
    if (!document || document.status === 'ready') return;
    throw new ApiError(
        'refused',
        document.status === 'gone' ?
            `The server no longer has \u201c${document.name}\u201d. Read it again first.` :
            `\u201c${document.name}\u201d could not be read.`);
  }

  remove(conversation) {
    this.running.get(conversation.id)?.abort();
    this.running.delete(conversation.id);
    const id = conversation.document?.id;
    conversation.document = null;
    this.files.remove(conversation.id);
    this.changed(conversation);
    if (id) this.release(id, conversation);
  }

  // Deletes a document from the server unless another conversation needs it.
  release(id, conversation) {
    const others =
        this.conversations.list().filter((one) => one !== conversation && one.document?.id === id);
    if (!others.length) this.api.deleteDocument(id);
  }
}
