'use strict';

// What the browser keeps: conversations in localStorage, files of documents in IndexedDB. Where the
// browser allows neither (private windows, full disks), both live as long as the page.

const kConversationPrefix = 'restkv.conversation.';
const kSettingsKey = 'restkv.settings';

class Conversations {
  constructor() {
    this.all = new Map();
    this.onproblem = () => {};  // 'none': no storage at all; 'full': no room; null: all is well
    this.onchange = () => {};
    this.isInUse = () => false;  // whether this page is changing a conversation right now
    this.problem = null;
    try {
      this.storage = window.localStorage;
      this.storage.setItem('restkv.probe', '1');
      this.storage.removeItem('restkv.probe');
    } catch (error) {
      // A full storage can still be read.
      this.problem = this.storage && error?.name === 'QuotaExceededError' ? 'full' : 'none';
      if (this.problem === 'none') this.storage = null;
    }
    if (!this.storage) return;
    for (let i = 0; i < this.storage.length; ++i) this.load(this.storage.key(i));
    window.addEventListener('storage', (event) => {
      if (!event.key?.startsWith(kConversationPrefix)) return;
      const id = event.key.slice(kConversationPrefix.length);
      // Another tab must not replace what this one is writing; its next step saves it again.
      if (this.isInUse(id)) return;
      if (event.newValue === null)
        this.all.delete(id);
      else
        this.load(event.key);
      this.onchange(id);
    });
  }

  load(key) {
    if (!key?.startsWith(kConversationPrefix)) return;
    try {
      const value = JSON.parse(this.storage.getItem(key));
      if (typeof value?.id !== 'string' || !Array.isArray(value.messages)) return;
      // The object that views hold stays the same one.
      const known = this.all.get(value.id);
      if (known)
        Object.assign(known, value);
      else
        this.all.set(value.id, value);
    } catch {
      // A damaged entry is left alone; it may belong to a newer version of the page.
    }
  }

  // Newest first; those without content are not worth a line.
  list() {
    return [...this.all.values()]
        .filter((one) => one.messages.length || one.document)
        .sort((a, b) => b.updated - a.updated);
  }

  create(settings) {
    const id = `${Date.now().toString(36)}-${Math.random().toString(36).slice(2, 10)}`;
    const conversation = {
      id,
      title: '',
      updated: Date.now(),
      method: settings.method,
      budget: settings.budget,
      document: null,
      messages: []
    };
    this.all.set(id, conversation);
    return conversation;
  }

  save(conversation) {
    if (!this.all.has(conversation.id)) return;
    if (!conversation.messages.length && !conversation.document) return;
    if (!this.storage) return;
    try {
      this.storage.setItem(kConversationPrefix + conversation.id, JSON.stringify(conversation));
      this.setProblem(null);
    } catch {
      this.setProblem('full');
    }
  }

  restore(conversation) {
    this.all.set(conversation.id, conversation);
    this.save(conversation);
  }

  remove(id) {
    this.all.delete(id);
    try {
      this.storage?.removeItem(kConversationPrefix + id);
    } catch {
      return;
    }
    if (this.problem === 'full') this.setProblem(null);
  }

  setProblem(problem) {
    if (this.problem === problem) return;
    this.problem = problem;
    this.onproblem(problem);
  }

  settings() {
    try {
      return JSON.parse(this.storage?.getItem(kSettingsKey) ?? '{}') ?? {};
    } catch {
      return {};
    }
  }

  saveSettings(settings) {
    try {
      this.storage?.setItem(kSettingsKey, JSON.stringify(settings));
    } catch {
      // The choice then holds for this page only.
    }
  }
}

// Files by the id of their conversation, so that a document can be read again.
class Files {
  constructor() {
    this.memory = new Map();
    this.database = new Promise((resolve) => {
      try {
        const request = window.indexedDB.open('restkv', 1);
        request.onupgradeneeded = () => request.result.createObjectStore('files');
        request.onsuccess = () => resolve(request.result);
        request.onerror = () => resolve(null);
        request.onblocked = () => resolve(null);
      } catch {
        resolve(null);
      }
    });
  }

  async run(mode, work) {
    const database = await this.database;
    if (!database) return null;
    return new Promise((resolve) => {
      try {
        const transaction = database.transaction('files', mode);
        const request = work(transaction.objectStore('files'));
        transaction.oncomplete = () => resolve(request.result ?? null);
        transaction.onerror = () => resolve(null);
        transaction.onabort = () => resolve(null);
      } catch {
        resolve(null);
      }
    });
  }

  async put(id, file, name) {
    this.memory.set(id, {file, name});
    await this.run('readwrite', (store) => store.put({file, name}, id));
  }

  async get(id) {
    return this.memory.get(id) ?? await this.run('readonly', (store) => store.get(id));
  }

  async remove(id) {
    this.memory.delete(id);
    await this.run('readwrite', (store) => store.delete(id));
  }

  // Removes files whose conversation was deleted just before the page was closed.
  async keepOnly(ids) {
    const keys = await this.run('readonly', (store) => store.getAllKeys()) ?? [];
    for (const key of keys)
      if (!ids.has(key)) await this.remove(key);
  }
}
