// What the server tells of its own accord: that files came or went, and how far downloads are.
//
// A browser opens six connections to a server at most, over all its windows, so only a window in sight listens;
// one that comes back is told at once how things are.

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
  }

  close() {
    this.source?.close();
    this.source = null;
  }
}
