cdef unsigned short[2048] CRC_TABLE

cdef int slot_of(const unsigned char* data, Py_ssize_t start, Py_ssize_t count) noexcept
cpdef int key_slot(bytes key)
cpdef bytes slot_tags()
