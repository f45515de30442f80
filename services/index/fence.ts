import { GantryError } from '#platform/errors.ts';

/**
 * The index takes no writes: another one is about to take its place, and has read from the log all that this one shows. Asked again, the
 * store is that other one; or, when whoever built it was killed, this one goes on once somebody has tidied up (adr/0072).
 */
export class Fenced extends GantryError {
  constructor() {
    super('unavailable', 'nothing is written into the index now: another one is about to take its place');
    this.name = 'Fenced';
  }
}
