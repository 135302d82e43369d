// What the server tells of its own accord: that files came or went, and how far downloads are.
//
// A browser opens six connections to a server at most, over all its windows, so only a window in sight listens;
// one that comes back is told at once how things are.

const REST = 5000; // milliseconds until a refused stream is asked for again

export class Feed {
  constructor(address, hear) {
    this.address = new URL(address, document.baseURI);
    this.hear = hear;
    document.addEventListener('visibilitychange', () => this.look());
    addEventListener('pagehide', () => this.close());
    addEventListener('pageshow', () => this.look());
    this.look();
  }

  look() {
    if (document.visibilityState === 'hidden') return this.close();
    if (this.source && this.source.readyState !== EventSource.CLOSED) return;
    this.source = new EventSource(this.address);
    this.source.onmessage = ({ data }) => this.hear(JSON.parse(data));
    this.source.onerror = () => this.lost();
  }

  /** A cut connection is taken up by the browser itself; one that was refused (a server that is just starting, too
      many questions at once, a proxy's page) is asked for again after a while. */
  lost() {
    if (this.source?.readyState !== EventSource.CLOSED) return;
    clearTimeout(this.again);
    this.again = setTimeout(() => this.look(), REST);
  }

  close() {
    clearTimeout(this.again);
    this.source?.close();
    this.source = null;
  }
}
