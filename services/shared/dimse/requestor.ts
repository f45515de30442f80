import type { Association, ConnectOptions } from './types.ts';
export declare function connect(options: ConnectOptions): Promise<Association>;
