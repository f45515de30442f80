import assert from 'node:assert/strict';
import { basename, dirname } from 'node:path';
import type { Disk, DiskEntry, DiskFile, FlushReason } from './disk.ts';

/**
 * A disk for tests whose power can be cut. Everything lives twice: as the page cache shows it, and as the platter has it. What was not
 * flushed survives a cut in any mixture: sectors in any order, torn writes, a file grown by zeros, names without files and files
 * without names. A failed flush behaves as Linux's does (fsyncgate, 2018): what it could not write is clean from then on, and the next
 * flush succeeds without it.
 */
export type ModelOp =
  | 'open'
  | 'create'
  | 'mkdir'
  | 'read'
  | 'write'
  | 'truncate'
  | 'rename'
  | 'unlink'
  | 'rmdir'
  | 'list'
  | 'stat'
  | FlushReason;
export type Fault = 'EIO' | 'ENOSPC' | undefined;

export class PowerCut extends Error {
  readonly code = 'POWERCUT';
}

const SECTOR = 512;

type FileChange = { offset: number; data: Buffer } | { truncate: number };
class Inode {
  cache: Buffer = Buffer.alloc(0);
  platter: Buffer = Buffer.alloc(0);
  pending: FileChange[] = [];
  modifiedMs = 0;
}
type NameChange = { remove?: string; set?: [string, Node] };
class Directory {
  cache = new Map<string, Node>();
  platter = new Map<string, Node>();
  pending: NameChange[] = [];
}
type Node = Inode | Directory;

export class ModelDisk implements Disk {
  /** Flush nothing at this call site, and say that all is well: what a missing flush in the code would do. */
  ignored: FlushReason | undefined;
  fault: (op: ModelOp, path: string) => Fault = () => undefined;
  /** Operations until the power goes; what is asked for at that moment may or may not have happened. */
  cutAfter = Number.POSITIVE_INFINITY;
  freeBytes = 2 ** 40;
  nowMs = 0;
  readonly counts = new Map<ModelOp, number>();
  readonly #random: () => number;
  #root = new Directory();
  #life = 0;
  #dead = false;

  /** `random` gives [0, 1) and decides everything that is left to chance. */
  constructor(random: () => number, directories: readonly string[] = []) {
    this.#random = random;
    for (const path of directories) {
      let directory = this.#root;
      for (const name of path.split('/').filter(Boolean)) {
        const next = (directory.cache.get(name) as Directory | undefined) ?? new Directory();
        directory.cache.set(name, next);
        directory.platter.set(name, next);
        directory = next;
      }
    }
  }

  get powered(): boolean {
    return !this.#dead;
  }

  /** The process dies, the machine does not: the page cache stays, every handle is gone. */
  kill(): void {
    this.#life++;
    this.#dead = false;
    this.cutAfter = Number.POSITIVE_INFINITY;
  }

  /** The machine dies. What was not flushed is left to chance. */
  powerCut(): void {
    this.kill();
    this.#settle(this.#root, new Set());
  }

  async open(path: string, mode: 'create' | 'read' | 'change'): Promise<DiskFile> {
    const cut = this.#begin(mode === 'create' ? 'create' : 'open', path);
    const directory = this.#directory(dirname(path));
    const name = basename(path);
    let node = directory.cache.get(name);
    if (mode === 'create') {
      if (node) throw failure('EEXIST');
      node = new Inode();
      node.modifiedMs = this.nowMs;
      change(directory, { set: [name, node] });
    }
    if (!(node instanceof Inode)) throw failure(node ? 'EISDIR' : 'ENOENT');
    this.#end(cut);
    return this.#file(node, path, this.#life);
  }

  async mkdir(path: string): Promise<boolean> {
    const cut = this.#begin('mkdir', path);
    const directory = this.#directory(dirname(path));
    const existed = directory.cache.has(basename(path));
    if (!existed) change(directory, { set: [basename(path), new Directory()] });
    this.#end(cut);
    return !existed;
  }

  async list(path: string): Promise<DiskEntry[]> {
    this.#end(this.#begin('list', path));
    const node = this.#find(path);
    if (!(node instanceof Directory)) return [];
    return [...node.cache].map(([name, child]) => ({ name, directory: child instanceof Directory }));
  }

  async stat(path: string): Promise<{ bytes: number; modifiedMs: number } | undefined> {
    this.#end(this.#begin('stat', path));
    const node = this.#find(path);
    return node instanceof Inode ? { bytes: node.cache.length, modifiedMs: node.modifiedMs } : undefined;
  }

  async rename(from: string, to: string): Promise<void> {
    assert.equal(dirname(from), dirname(to), 'the archive renames within a directory');
    const cut = this.#begin('rename', from);
    const directory = this.#directory(dirname(from));
    const node = directory.cache.get(basename(from));
    if (!node) throw failure('ENOENT');
    change(directory, { remove: basename(from), set: [basename(to), node] });
    this.#end(cut);
  }

  async unlink(path: string): Promise<void> {
    const cut = this.#begin('unlink', path);
    const directory = this.#directory(dirname(path));
    if (!(directory.cache.get(basename(path)) instanceof Inode)) throw failure('ENOENT');
    change(directory, { remove: basename(path) });
    this.#end(cut);
  }

  async rmdir(path: string): Promise<void> {
    const cut = this.#begin('rmdir', path);
    const node = this.#directory(path);
    if (node.cache.size > 0) throw failure('ENOTEMPTY');
    change(this.#directory(dirname(path)), { remove: basename(path) });
    this.#end(cut);
  }

  async flushDirectory(path: string, reason: FlushReason): Promise<void> {
    // A failed one leaves the names in doubt, no worse: ext4 and xfs keep them in a journal, and stop at an error rather than forget.
    const cut = this.#begin(reason, path);
    const directory = this.#directory(path);
    if (this.ignored !== reason && (!cut || this.#random() < 0.5)) {
      for (const each of directory.pending) apply(directory.platter, each);
      directory.pending = [];
    }
    this.#end(cut);
  }

  async space(): Promise<{ freeBytes: number; totalBytes: number }> {
    return { freeBytes: this.freeBytes, totalBytes: 2 ** 41 };
  }

  #file(inode: Inode, path: string, life: number): DiskFile {
    const alive = (): void => {
      if (life !== this.#life) throw new PowerCut('a handle of an earlier life');
    };
    return {
      read: async (target, offset) => {
        alive();
        this.#end(this.#begin('read', path));
        return offset >= inode.cache.length ? 0 : inode.cache.copy(target, 0, offset);
      },
      write: async (buffers, offset) => {
        alive();
        const data = Buffer.concat(buffers);
        const part = Math.floor(this.#random() * data.length);
        const cut = this.#begin('write', path, () => write(inode, offset, data.subarray(0, part)));
        write(inode, offset, data);
        inode.modifiedMs = this.nowMs;
        this.#end(cut);
      },
      truncate: async (bytes) => {
        alive();
        const cut = this.#begin('truncate', path);
        inode.cache = resized(inode.cache, bytes);
        inode.pending.push({ truncate: bytes });
        this.#end(cut);
      },
      flush: async (reason) => {
        alive();
        const cut = this.#begin(reason, path, () => {
          const lost = inode.pending;
          inode.pending = [];
          this.#survive(inode, lost);
        });
        if (this.ignored !== reason && (!cut || this.#random() < 0.5)) {
          for (const each of inode.pending) applyToPlatter(inode, each);
          inode.pending = [];
        }
        this.#end(cut);
      },
      size: async () => {
        alive();
        return inode.cache.length;
      },
      close: async () => {
        // closing flushes nothing, and cannot fail in a way that matters
      },
    };
  }

  /** Counts, fails as told, and says whether the power goes during this operation. */
  #begin(op: ModelOp, path: string, onFault?: () => void): boolean {
    if (this.#dead) throw new PowerCut('no power');
    this.counts.set(op, (this.counts.get(op) ?? 0) + 1);
    const fault = this.fault(op, path);
    if (fault) {
      onFault?.();
      throw failure(fault);
    }
    return --this.cutAfter < 0;
  }

  #end(cut: boolean): void {
    if (!cut) return;
    this.#dead = true;
    throw new PowerCut('the power went');
  }

  #find(path: string): Node | undefined {
    let node: Node | undefined = this.#root;
    for (const name of path.split('/').filter(Boolean))
      node = node instanceof Directory ? node.cache.get(name) : undefined;
    return node;
  }

  #directory(path: string): Directory {
    const node = this.#find(path);
    if (!(node instanceof Directory)) throw failure('ENOENT');
    return node;
  }

  #settle(node: Node, seen: Set<Node>): void {
    if (seen.has(node)) return;
    seen.add(node);
    if (node instanceof Inode) {
      this.#survive(node, node.pending);
      node.pending = [];
      node.cache = Buffer.from(node.platter);
      return;
    }
    const keep = this.#keeper(node.pending.length);
    node.pending.forEach((each, i) => {
      if (keep(i)) apply(node.platter, each);
    });
    node.pending = [];
    node.cache = new Map(node.platter);
    for (const child of node.cache.values()) this.#settle(child, seen);
  }

  /** Which of the unflushed sectors reached the platter. */
  #survive(inode: Inode, changes: readonly FileChange[]): void {
    const keep = this.#keeper(changes.length);
    changes.forEach((each, i) => {
      if ('truncate' in each || keep(i) || this.#random() < 0.3) {
        if ('truncate' in each ? keep(i) : this.#random() < 0.5) applyToPlatter(inode, each);
        else if (!('truncate' in each)) this.#tear(inode, each.offset, each.data);
      }
    });
  }

  #tear(inode: Inode, offset: number, data: Buffer): void {
    // The size may be there without the bytes.
    if (this.#random() < 0.5)
      inode.platter = resized(
        inode.platter,
        Math.max(inode.platter.length, offset + Math.floor(this.#random() * data.length)),
      );
    const likely = this.#random();
    let at = 0;
    while (at < data.length) {
      const end = Math.min(data.length, at + SECTOR - ((offset + at) % SECTOR));
      if (this.#random() < likely) applyToPlatter(inode, { offset: offset + at, data: data.subarray(at, end) });
      at = end;
    }
  }

  /** None, all, a prefix, or any of them. */
  #keeper(count: number): (i: number) => boolean {
    const mode = Math.floor(this.#random() * 4);
    const prefix = Math.floor(this.#random() * (count + 1));
    if (mode === 0) return () => false;
    if (mode === 1) return () => true;
    if (mode === 2) return (i) => i < prefix;
    return () => this.#random() < 0.5;
  }
}

function change(directory: Directory, each: NameChange): void {
  apply(directory.cache, each);
  directory.pending.push(each);
}

function apply(names: Map<string, Node>, { remove, set }: NameChange): void {
  if (remove !== undefined) names.delete(remove);
  if (set) names.set(...set);
}

function write(inode: Inode, offset: number, data: Buffer): void {
  if (data.length === 0) return;
  inode.cache = resized(inode.cache, Math.max(inode.cache.length, offset + data.length));
  data.copy(inode.cache, offset);
  inode.pending.push({ offset, data });
}

function applyToPlatter(inode: Inode, each: FileChange): void {
  if ('truncate' in each) {
    inode.platter = resized(inode.platter, each.truncate);
    return;
  }
  inode.platter = resized(inode.platter, Math.max(inode.platter.length, each.offset + each.data.length));
  each.data.copy(inode.platter, each.offset);
}

function resized(buffer: Buffer, bytes: number): Buffer {
  if (bytes === buffer.length) return buffer;
  const next = Buffer.alloc(bytes);
  buffer.copy(next);
  return next;
}

function failure(code: string): NodeJS.ErrnoException {
  return Object.assign(new Error(`the model disk answered ${code}`), { code });
}
