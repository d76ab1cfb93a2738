'use strict';

// Requests to the server, and what can go wrong with them in words for the reader.

// `kind`: gone (no answer at all), key, busy, refused, failed, stopped, broken (in the middle).
class ApiError extends Error {
  constructor(kind, message, {status = 0, param = null, retryAfter = 0} = {}) {
    super(message);
    this.kind = kind;
    this.status = status;
    this.param = param;
    this.retryAfter = retryAfter;
  }
}

function asApiError(error) {
  if (error instanceof ApiError) return error;
  if (error?.name === 'AbortError') return new ApiError('stopped', 'Stopped.');
  return new ApiError('gone', 'The server does not answer. It may have been stopped.');
}

class Api {
  // `askForKey(wrong)` resolves to a key or to null.
  constructor(askForKey) {
    this.askForKey = askForKey;
    this.pendingKey = null;
    this.key = null;
    try {
      this.key = window.sessionStorage.getItem('restkv.key');
    } catch {
      // Without storage the key lives as long as the page.
    }
    this.onconnection = () => {};
  }

  setKey(key) {
    this.key = key;
    try {
      window.sessionStorage.setItem('restkv.key', key);
    } catch {
      // As above.
    }
  }

  // Resolves to a response with a status of success; everything else is an ApiError. Paths begin at
  // the page's own folder, which may be one of a proxy.
  async request(path, options = {}) {
    for (;;) {
      const used = this.key;
      const headers = {...options.headers};
      if (used) headers.Authorization = `Bearer ${used}`;
      let response;
      try {
        response = await fetch(
            `.${path}`, {...options, headers, cache: 'no-store', credentials: 'same-origin'});
      } catch (error) {
        const problem = asApiError(error);
        if (problem.kind === 'gone') this.onconnection(false);
        throw problem;
      }
      this.onconnection(true);
      if (response.ok) return response;
      if (response.status === 401) {
        if (this.key !== used) continue;  // another request has asked meanwhile
        this.pendingKey ??= this.askForKey(Boolean(used)).finally(() => {
          this.pendingKey = null;
        });
        const key = await this.pendingKey;
        if (!key) throw new ApiError('key', 'The server needs an API key.', {status: 401});
        this.setKey(key);
        continue;
      }
      throw await this.errorOf(response);
    }
  }

  async errorOf(response) {
    let detail = {};
    try {
      const body = JSON.parse(await response.text());
      if (body && typeof body.error === 'object' && body.error)
        detail = body.error;
      else if (body?.status === 'loading model')
        detail = {message: 'The model is still being loaded.'};
    } catch {
      // Not every error has a body, for instance those of a proxy.
    }
    const status = response.status;
    const more = {status, param: detail.param ?? null};
    if (status === 429 || status === 503) {
      const seconds = Number(response.headers.get('Retry-After'));
      more.retryAfter = Number.isFinite(seconds) && seconds > 0 ? Math.min(seconds, 60) : 2;
      return new ApiError('busy', detail.message ?? 'The server is busy.', more);
    }
    const kind = status >= 500 ? 'failed' : 'refused';
    const general = status === 413 ? 'The file is too large for this server.' :
                                     `The server answered with error ${status}.`;
    return new ApiError(kind, typeof detail.message === 'string' ? detail.message : general, more);
  }

  async json(path, options) {
    const response = await this.request(path, options);
    try {
      return await response.json();
    } catch (error) {
      if (error?.name === 'AbortError') throw asApiError(error);
      throw new ApiError('failed', 'The answer of the server cannot be read.');
    }
  }

  uploadDocument(file, name, choice, signal) {
    const form = new FormData();
    form.append('name', name);
    form.append('restkv', JSON.stringify(choice));
    form.append('file', file, name);
    return this.json('/v1/documents?wait=false', {method: 'POST', body: form, signal});
  }

  document(id, signal) {
    return this.json(`/v1/documents/${encodeURIComponent(id)}`, {signal});
  }

  // A document that cannot be deleted now is the server's to forget.
  async deleteDocument(id) {
    try {
      await this.request(
          `/v1/documents/${encodeURIComponent(id)}`, {method: 'DELETE', keepalive: true});
    } catch {
      // See above.
    }
  }

  kept(source, signal) {
    return this.json(`/v1/${source.kind}s/${encodeURIComponent(source.id)}/kept`, {signal});
  }

  // Streams an answer. `ondelta` gets each chunk. Resolves after the stream's proper end.
  async chat(body, signal, ondelta) {
    const response = await this.request('/v1/chat/completions', {
      method: 'POST',
      headers: {'Content-Type': 'application/json', Accept: 'text/event-stream'},
      body: JSON.stringify({...body, stream: true, stream_options: {include_usage: true}}),
      signal,
    });
    try {
      for await (const {event, data} of serverSentEvents(response.body)) {
        if (data === '[DONE]') return;
        let chunk;
        try {
          chunk = JSON.parse(data);
        } catch {
          throw new ApiError('broken', 'A part of the answer cannot be read.');
        }
        if (event === 'error' || chunk.error) {
          throw new ApiError(
              'broken', chunk.error?.message ?? 'The server could not finish the answer.');
        }
        ondelta(chunk);
      }
    } catch (error) {
      const problem = asApiError(error);
      if (problem.kind !== 'gone') throw problem;
    }
    throw new ApiError('broken', 'The connection ended before the answer did.');
  }
}

// The events of a stream: {event, data}.
async function* serverSentEvents(stream) {
  const reader = stream.getReader();
  const decoder = new TextDecoder();
  let rest = '';
  let event = 'message';
  let data = [];
  try {
    for (;;) {
      const {done, value} = await reader.read();
      rest += decoder.decode(value ?? new Uint8Array(), {stream: !done});
      const lines = rest.split(/\r\n|\n|\r(?!$)/);
      rest = lines.pop();
      for (const line of lines) {
        if (line === '') {
          if (data.length) yield {event, data: data.join('\n')};
          event = 'message';
          data = [];
        } else if (line.startsWith('data:'))
          data.push(line.slice(5).replace(/^ /, ''));
        else if (line.startsWith('event:'))
          event = line.slice(6).trim();
      }
      if (done) return;
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}
