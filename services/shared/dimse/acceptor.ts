import type { Acceptor, ListenOptions } from './types.ts';
export declare function listen(options: ListenOptions): Promise<Acceptor>;
