/**
 * A deadline that is moved on every packet. Moving only notes the new time; the one timer behind it looks when it fires and sleeps
 * on if the time has moved: a timer a packet would cost more than the packet.
 */
export class Deadline {
  private readonly onExpired: () => void;
  private expiresAt = Number.POSITIVE_INFINITY;
  private timer: NodeJS.Timeout | undefined;
  private timerAt = Number.POSITIVE_INFINITY;

  constructor(onExpired: () => void) {
    this.onExpired = onExpired;
  }

  get armed(): boolean {
    return this.expiresAt !== Number.POSITIVE_INFINITY;
  }

  /** (Re)starts it from now. */
  arm(ms: number): void {
    this.expiresAt = performance.now() + ms;
    if (this.timer === undefined || this.timerAt > this.expiresAt) this.sleep(ms);
  }

  disarm(): void {
    this.expiresAt = Number.POSITIVE_INFINITY;
  }

  /** Disarms it and lets the process end. */
  close(): void {
    this.disarm();
    clearTimeout(this.timer);
    this.timer = undefined;
  }

  private sleep(ms: number): void {
    clearTimeout(this.timer);
    this.timerAt = performance.now() + ms;
    this.timer = setTimeout(() => this.wake(), Math.ceil(ms));
    // The socket keeps the process alive, a deadline that nobody needs any more does not.
    this.timer.unref();
  }

  private wake(): void {
    this.timer = undefined;
    this.timerAt = Number.POSITIVE_INFINITY;
    // When this process itself was stalled, what the peer sent in time lies unread in the kernel: sockets are read before this runs.
    setImmediate(() => this.look());
  }

  private look(): void {
    if (!this.armed || this.timer !== undefined) return;
    const left = this.expiresAt - performance.now();
    if (left > 1) {
      this.sleep(left);
      return;
    }
    this.disarm();
    this.onExpired();
  }
}
