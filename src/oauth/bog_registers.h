
/*
 * Copyright (C) The nginx-bog authors
 */


#ifndef _BOG_REGISTERS_H_INCLUDED_
#define _BOG_REGISTERS_H_INCLUDED_


/*
 * Clears the vector registers.  What was copied or encrypted last stays in
 * them, for hours in a process that sleeps, and a core dump has a copy.
 */
void bog_registers_clear(void);


#endif /* _BOG_REGISTERS_H_INCLUDED_ */
