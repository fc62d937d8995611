cdef unsigned long long[2048] TABLE
cdef unsigned long long crc64_short(unsigned long long crc, const unsigned char* data, Py_ssize_t start, Py_ssize_t count) noexcept
